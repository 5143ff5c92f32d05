"""HTML pages out of templates that lie beside the code that fills them."""

from importlib.resources import files

from jinja2 import Environment, StrictUndefined


def render_page(package: str, template: str, **values: object) -> str:
    """Return a page; what is put into it is escaped, and a name that the template needs must be given.

    Args:
        package: package that holds the template, `__package__` of the caller.
        template: file name of the Jinja template.
        values: names and values that the template uses.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(files(package).joinpath(template).read_text(encoding="utf-8")).render(**values)

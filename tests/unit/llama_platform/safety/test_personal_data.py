import pytest

from llama_platform.safety.personal_data import find_personal_data, redact


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("write to bob.smith+x@mail.example.co.uk.", "write to [email]."),
        ("call +44 20 7946 0958 or (415) 555-2671", "call [phone] or [phone]"),
        ("my number is 555-123-4567", "my number is [phone]"),
        ("AKIAIOSFODNN7EXAMPLE", "[secret]"),
        ("key sk-proj-abcdefghijklmnop1234567890 ok", "key [secret] ok"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "[secret]"),
        ("-----BEGIN RSA PRIVATE KEY-----", "-----[secret]-----"),
        ("In 2024 we sold 10,000 lamps for $1,234.50 at 10:30", None),
        ("order 2024-01-02, page 123, ISBN 978-3-16-148410-0", None),
        ("price @ 5 euros; see user@host", None),
        ("", None),
    ],
)
def test_what_is_found_is_redacted_and_the_rest_is_left(text, redacted):
    places = find_personal_data(text, "US")
    assert redact(text, places) == (text if redacted is None else redacted)


def test_numbers_without_a_country_code_belong_to_the_region():
    assert [p.kind for p in find_personal_data("ring 030 901820", "DE")] == ["phone"]
    assert find_personal_data("ring 030 901820", "US") == []

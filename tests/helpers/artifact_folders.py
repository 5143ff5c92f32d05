"""A fetched artifact's folder, for tests whose cache never evicts it."""


def fetched_folder(repository, version):
    with repository.fetched(version) as folder:
        return folder

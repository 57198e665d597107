"""The folder of a model, on local disk or on an S3 server."""

from corpus_reranker.io.filesystem import join, resolve
from helpers.locations import Location


def upload(location: Location, files: dict[str, bytes]) -> str:
    """Write the files of a model under `location`. Returns the URL of the folder."""
    url = location.url if "://" in location.url else f"file://{location.url}"
    url = f"{url}/reranker-7b"
    filesystem, folder = resolve(url, location.storage)
    for name, content in files.items():
        path = join(folder, name)
        filesystem.create_dir(path.rpartition("/")[0])
        with filesystem.open_output_stream(path) as stream:
            stream.write(content)
    return url

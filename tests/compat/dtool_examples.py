"""The examples of dtool-lookup-api's documentation, with another import line, and what they show of the sandbox's data."""

from __future__ import annotations

from dtool_support import FOUND, QUERIED, README

QUERY_OWNER = """
from nuncius.compat.dtool_lookup_api import query
res = query(
    {
        'readme.owners.name': {'$regex': '^Testing User$'},
    }
)
"""

QUERY_NAME = """
from nuncius.compat.dtool_lookup_api import query
res = query(
    {
        'base_uri': 'smb://test-share',
        'name': {'$regex': 'test'},
    }
)
"""

ALL = """
from nuncius.compat.dtool_lookup_api import all
all()
"""

LIST = """
from nuncius.compat.dtool_lookup_api import get_datasets
res = get_datasets()
"""

BY_UUID = """
from nuncius.compat.dtool_lookup_api import get_datasets_by_uuid
uuid = "1a1f9fad-8589-413e-9602-5bbd66bfe675"
res = get_datasets_by_uuid(uuid)
"""

SEARCH = """
from nuncius.compat.dtool_lookup_api import get_datasets
res = get_datasets(free_text="test")
"""

MANIFEST = """
from nuncius.compat.dtool_lookup_api import get_manifest
uri = 'smb://test-share/1a1f9fad-8589-413e-9602-5bbd66bfe675'
res = get_manifest(uri)
"""

README_TEXT = """
from nuncius.compat.dtool_lookup_api import get_readme
res = get_readme('smb://test-share/1a1f9fad-8589-413e-9602-5bbd66bfe675')
import yaml
yaml.safe_load(res)
"""

AWAITED = """
import nuncius.compat.dtool_lookup_api.asynchronous as dl
res = await dl.query({
    'base_uri': 'smb://test-share',
    'name': {'$regex': 'test'},
})
"""

ANYWHERE = """
import asyncio
import nuncius.compat.dtool_lookup_api.asynchronous as dl

if asyncio.get_event_loop().is_running():
    # then we are in jupyter notebook
    # this allows nested event loops, i.e. calls to asyncio.run inside the notebook as well
    # This way, the same code works in notebook and python
    import nest_asyncio
    nest_asyncio.apply()

def query(query_dict):
    return asyncio.run(dl.query(query_dict))

query({
    'base_uri': 'smb://test-share',
    'name': {'$regex': 'test'},
})
"""

NOT_LOGGED_IN = """
from nuncius.compat import dtool_lookup_api
import nuncius.compat.dtool_lookup_api.core.config
dtool_lookup_api.core.config.Config.interactive = False
dtool_lookup_api.core.config.Config.cache = False
"""

MANIFEST_OF_17_BYTES = {
    "dtoolcore_version": "3.19.0",
    "hash_function": "md5sum_hexdigest",
    "items": {
        "eb58eb70ebcddf630feeea28834f5256c207edfd": {
            "hash": "2f7d9c3e0cfd47e8fcab0c12447b2bf0",
            "relpath": "simple_text_file.txt",
            "size_in_bytes": 17,
            "utc_timestamp": 1604860720.736269,
        }
    },
}
MILLISECONDS = FOUND | {name: QUERIED[name] for name in ("created_at", "frozen_at")}
EXAMPLES = {
    "query by owner": (QUERY_OWNER, "res", [QUERIED]),
    "query by name": (QUERY_NAME, "res", [QUERIED]),
    "all": (ALL, "[row for row in all() if row['base_uri'] == 'smb://test-share']", [FOUND]),
    "list": (LIST, "[row for row in res if row['base_uri'] == 'smb://test-share']", [FOUND]),
    "by uuid": (BY_UUID, "res", [FOUND]),
    "free text": (SEARCH, "res", [MILLISECONDS]),
    "manifest": (MANIFEST, "res", MANIFEST_OF_17_BYTES),
    "readme": (README_TEXT, "yaml.safe_load(res)", README),
}

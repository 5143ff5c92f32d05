"""All routes of administration, behind one check of token or key."""

from fastapi import APIRouter, Depends

from serve_apps.api.access import require_admin
from serve_apps.api.admin import adapters, canaries, documents, keys, runs, traffic, usage
from serve_apps.api.admin.aliases import alias_routes
from serve_apps.api.errors import error_responses

routes = APIRouter(prefix="/admin", dependencies=[Depends(require_admin)], responses=error_responses())
routes.include_router(adapters.routes)
routes.include_router(canaries.routes)
routes.include_router(documents.routes)
routes.include_router(keys.routes)
routes.include_router(runs.routes)
routes.include_router(traffic.routes)
routes.include_router(usage.routes)
routes.include_router(alias_routes("/adapters", "adapter"))
routes.include_router(alias_routes("/indexes", "index"))

"""All routes of administration, behind one check of the token."""

from fastapi import APIRouter, Depends

from serve_apps.api.admin import adapters, aliases, documents
from serve_apps.api.admin.access import require_admin

routes = APIRouter(prefix="/admin", dependencies=[Depends(require_admin)])
for module in (adapters, documents, aliases):  # the last one's paths are the widest
    routes.include_router(module.routes)

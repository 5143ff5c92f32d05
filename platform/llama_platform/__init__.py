"""Fine-tune Llama-2 on your chats and serve it, on Ray.

Subpackages, in the order in which data passes them: `storage`, `artifacts`, `models`, `data`, `training`,
`inference`; `cli` is for operators. HTTP lives in `serve_apps`, retrieval in `rag`, entry points in `jobs`.
"""

__version__ = "0.1.0"

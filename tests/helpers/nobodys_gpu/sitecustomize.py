"""Makes every process whose PYTHONPATH begins with this folder believe that the machine has a GPU.

Ray has assigned it to nobody, so whoever uses it fails: torch's CPU build has no CUDA.
"""

import importlib.abc
import importlib.util
import sys


class _Pretender(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "torch.cuda":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            module.is_available, module.device_count = lambda: True, lambda: 1

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Pretender())

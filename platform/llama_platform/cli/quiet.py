"""Quiet: what libraries print beside what a job has to say."""

import logging
import os
import warnings


def quiet_libraries() -> None:
    """Keep the libraries' progress bars and notices off the screen; their errors still show."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning)
    import transformers

    transformers.utils.logging.disable_progress_bar()
    for name in ("DeepSpeed", "ray.data", "ray.train", "sentence_transformers", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)

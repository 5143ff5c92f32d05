from datasets_of_sources import GOOD
from llama_platform.data.config import DataConfig
from llama_platform.data.examine import examine_batch


def test_the_examiner_may_run_elsewhere(prepare_chats, tiny_template, tmp_path):
    from llama_platform.batch.examiner import _from_json, _to_json

    config = DataConfig(max_tokens=64)

    def elsewhere(batches):
        for batch in batches:
            yield [_from_json(_to_json(result)) for result in examine_batch(batch, config, tiny_template)]

    here, rows_here, _ = prepare_chats(*GOOD)
    there, rows_there, _ = prepare_chats(*GOOD, examiner=elsewhere)
    assert (here, rows_here) == (there, rows_there)

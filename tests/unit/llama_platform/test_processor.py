from llama_platform import processor


def test_the_processor_is_described_from_what_linux_tells(monkeypatch):
    lines = ["processor\t: 0", "model name\t: Some CPU @ 2 GHz", "flags\t\t: fpu avx2 avx512f amx_bf16 amx_tile"]
    monkeypatch.setattr(processor, "_cpu_lines", lambda: lines)
    assert processor.cpu_name() == "Some CPU @ 2 GHz"
    assert processor.instructions() == ["avx2", "avx512f", "amx_bf16"]


def test_where_linux_tells_nothing_there_is_no_error(monkeypatch):
    monkeypatch.setattr(processor, "_cpu_lines", lambda: [])
    assert isinstance(processor.cpu_name(), str)
    assert processor.instructions() == []


def test_the_rate_of_a_product_counts_the_shortest_time():
    assert processor.cores() >= 1
    assert 0.01 < processor.matmul_gflops(256, 3) < 1e6

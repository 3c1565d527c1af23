"""Facts about the machine."""

from codegraph_jax.core import environment


def test_as_many_threads_decode_as_there_are_cores_up_to_a_limit(monkeypatch):
    for cores, threads in ((2, 2), (64, 8)):
        monkeypatch.setattr(environment, "usable_cores", lambda cores=cores: cores)
        assert environment.decoding_threads() == threads

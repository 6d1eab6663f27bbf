from pixel_pipeline.conversations.code_version import CODE_VERSION, code_version


def test_it_is_a_digest_and_stays() -> None:
    assert len(CODE_VERSION) == 16
    assert code_version() == CODE_VERSION
    code_version.cache_clear()
    assert code_version() == CODE_VERSION

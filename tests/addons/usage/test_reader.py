from addons.usage.documents import WHOLE_BYTES, Document
from addons.usage.gemini_family import GenerateReader
from addons.usage.reader import FreeReader, Reader


def body(text: bytes) -> Document:
    made = Document()
    made.add(text)
    return made


def test_an_answer_is_complete_when_it_is_whole_json():
    for text, complete in (
        (b'{"a": 1}', True),
        (b'{"a": 1', False),
        (b'{"a": 1}}', False),
        (b"", False),
        (b"[" + b'"x", ' * WHOLE_BYTES + b'"x"]\n', True),
        (b'{"a": [' + b'"x", ' * WHOLE_BYTES + b'"x"]}', True),
        (b"[" + b'"x", ' * WHOLE_BYTES, False),
    ):
        reader = Reader()
        reader.read_body(body(text))
        assert reader.complete == complete, text[:20]
        assert (reader.usage, reader.model, reader.error_message) == (None, None, None)


def test_nothing_is_known_before_anything_is_read():
    reader = Reader()
    assert reader.complete is False
    assert (reader.usage, reader.model, reader.error_message) == (None, None, None)


def test_only_geminis_streams_do_not_say_that_they_are_over():
    assert Reader.has_last_word
    assert not GenerateReader.has_last_word


def test_a_free_answer_used_nothing_unless_it_is_an_error_or_never_came():
    for text, free in (
        (b'{"data": []}', True),
        (b'{"data": [' + b'"x", ' * WHOLE_BYTES, True),
        (b'{"error": {"message": "no"}}', False),
        (b"", False),
    ):
        reader = FreeReader()
        reader.read_body(body(text))
        assert (reader.usage is not None) == free, text[:20]

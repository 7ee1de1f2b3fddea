"""The exception tree is one: whoever catches StorageError catches all of it."""

import inspect

from storage import errors


def test_every_error_is_a_storage_error_with_a_docstring():
    classes = [
        member
        for member in vars(errors).values()
        if inspect.isclass(member) and member.__module__ == errors.__name__
    ]
    assert len(classes) > 5
    for each in classes:
        assert issubclass(each, errors.StorageError), each
        assert each.__doc__, each


def test_too_many_codes_says_how_long_to_wait():
    error = errors.TooManyCodes(17)
    assert error.seconds == 17
    assert str(error)

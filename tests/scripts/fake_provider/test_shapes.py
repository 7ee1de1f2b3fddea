from scripts.fake_provider.shapes import items_of, object_of, objects_of


def test_what_is_not_there_is_empty():
    assert object_of([1]) == {}
    assert object_of({"a": 1}) == {"a": 1}
    assert items_of({"a": 1}) == []
    assert items_of([1]) == [1]
    assert objects_of([1, {"a": 1}, {}, None]) == [{"a": 1}]

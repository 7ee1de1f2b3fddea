import inspect

from pydantic import BaseModel

from api import usage_models


def test_examples_are_true():
    explained = 0
    for _, model in inspect.getmembers(usage_models, inspect.isclass):
        if issubclass(model, BaseModel) and model.__module__ == usage_models.__name__:
            for example in model.model_json_schema().get("examples", []):
                explained += 1
                shown = model.model_validate(example).model_dump(by_alias=True)
                assert set(shown) == set(example), model
    assert explained >= 20

"""The seam: the gateway is what a stream expects."""

import inspect

from addons.gateway import Gateway
from addons.policy import Policy


def test_the_gateway_has_every_method_of_the_policy_with_the_same_signature():
    methods = {
        name: member
        for name, member in vars(Policy).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }
    assert methods
    for name, expected in methods.items():
        actual = getattr(Gateway, name)
        required = [
            parameter.name
            for parameter in inspect.signature(actual).parameters.values()
            if parameter.default is parameter.empty
        ]
        assert required == list(inspect.signature(expected).parameters), name
        assert inspect.iscoroutinefunction(actual) == inspect.iscoroutinefunction(expected), name


def test_the_gateway_has_every_attribute_of_the_policy(proxy):
    for name in Policy.__annotations__:
        assert hasattr(proxy.gateway, name), name

import json

from scripts.proof.rest_walk import rest_walk

SECRET = "sk-metrion-0 1"
DOCUMENT = {
    "paths": {
        "/things/{id}": {
            "get": {
                "parameters": [
                    {"name": "id", "in": "path"},
                    {"name": "q", "in": "query"},
                    {"name": "cursor", "in": "query"},
                ]
            },
            "delete": {"parameters": [{"name": "id", "in": "path"}]},
        },
        "/keys/{provider}": {
            "put": {
                "parameters": [{"name": "provider", "in": "path"}],
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {
                                "oneOf": [
                                    {"$ref": "#/components/schemas/Key"},
                                    {"properties": {"note": {"type": "string"}}},
                                ]
                            }
                        }
                    }
                },
            }
        },
    },
    "components": {"schemas": {"Key": {"properties": {"key": {"type": "string"}}}}},
}


def test_each_place_of_an_operation_has_the_secret_once():
    asked = list(rest_walk(DOCUMENT, [SECRET], {("DELETE", "/things/{id}")}))
    assert {ask.what for ask in asked} == {
        *(f"GET /things/{{id}}: {where}" for where in ("in the query", "in the path")),
        *(f"GET /things/{{id}}: as {name}" for name in ("q", "cursor")),
        *(f"PUT /keys/{{provider}}: {where}" for where in ("in the query", "in the path")),
        *(f"PUT /keys/{{provider}}: {where}" for where in ("in the fields", "in a list")),
        *(f"PUT /keys/{{provider}}: {where}" for where in ("as a field", "not JSON")),
    }
    for ask in asked:
        said = ask.path.replace("+", " ").replace("%20", " ") + ask.body.decode()
        assert SECRET in said
    fields = next(ask for ask in asked if ask.what.endswith("in the fields"))
    assert json.loads(fields.body) == {"key": SECRET, "note": SECRET}
    assert fields.path == "/keys/openai"


def test_secrets_take_turns():
    asked = list(rest_walk(DOCUMENT, ["one", "two"]))
    assert {"one", "two"} <= {
        word for ask in asked for word in ask.path.replace("=", "&").split("&")
    }

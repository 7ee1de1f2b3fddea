"""`metrion doctor`: looks at a deployment from all sides and says what is wrong and what to do.

`examination` lists the checks in their order; each is a module of its own that returns results.
Nothing is changed, and no secret is ever in a result.
"""

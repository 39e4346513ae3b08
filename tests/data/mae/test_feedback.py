"""Feedback rules: which results of a call are errors, which are empty, and which are all right."""

import json
import time

import pytest

from tl_jax.data.mae.feedback import classify_feedback

# Text, is it an error, category.
STRUCTURED = [
    ("name 'find' is not defined", True, "tool_hallucination"),
    ("Unknown tool find_advice", True, "tool_hallucination"),
    ("f() got an unexpected keyword argument 'q'", True, "parameter_hallucination"),
    ("f() missing 1 required positional argument: 'x'", True, "parameter_missing"),
    ('{"error": "name and type can not both be None."}', True, "parameter_missing"),
    ('{"code": 422, "error": "Not a valid argument for \'size\'"}', True, "content_filling"),
    ("400 Client Error: Bad Request for url: x", True, "content_filling"),
    ("500 Internal Server", True, "service"),
    ('{"message": "Unauthorized"}', True, "service"),
    ('{"detail": "Slow down", "status": 429}', True, "service"),
    ("HTTPSConnectionPool(host='x'): Max retries exceeded with url: /", True, "service"),
    ("requests.exceptions.ConnectionError: x", True, "service"),
    ("{'errors': [{'detail': 'Invalid CIDR format.', 'status': 400}]}", True, "content_filling"),
    ('{"success": false, "message": "Reserved range"}', True, "unknown"),
    ('{"errors": [{"code": "X", "detail": "Invalid date', True, "content_filling"),
    ("'related_searches'", True, "service"),
    ("terror attack", False, "all_right"),
    ('{"slip": "A reign of terror ended"}', False, "all_right"),
    ('{"errors": []}', False, "all_right"),
    ('{"error": null}', False, "all_right"),
    ('{"error": "", "errors": {}, "data": [1]}', False, "all_right"),
    ('{"status": {"error_code": 0, "error_message": null}, "data": {"a": 1}}', False, "all_right"),
    ("{'status': 'ok', 'errors': []}", False, "all_right"),
    ('{"title": "How I fixed a TypeError: a story", "id": 404}', False, "all_right"),
    ('{"get": "seasons", "errors": [], "response": [2012, 20', False, "all_right"),
    ("mirror", False, "all_right"),
    ("", False, "all_right"),
    ("No errors found", False, "nothing_found"),
    ('{"error": "No activity found with the specified parameters"}', False, "nothing_found"),
    ('{"error": {"code": 404, "message": "No matching location found."}}', False, "nothing_found"),
    ("[]", False, "nothing_found"),
]


@pytest.mark.parametrize(("text", "is_error", "category"), STRUCTURED)
def test_structured_rules_tell_errors_from_results(text, is_error, category):
    status = classify_feedback(text, mode="structured")
    assert (status.is_error, status.category) == (is_error, category)
    assert status.reason


def test_reference_rule_fires_on_the_letters_of_error():
    assert classify_feedback("terror attack", mode="reference").is_error
    assert classify_feedback("No err or", mode="reference").is_error
    assert not classify_feedback("Invalid parameter", mode="reference").is_error


def test_reference_reason_names_the_narrowest_phrase():
    status = classify_feedback("400 Client Error: x", mode="reference")
    assert status.reason == "400 Client Error"


# Sound results that hold the words, numbers or signs of errors.
HARD_NEGATIVES = [
    # A value in quotes, as str() of a Python text gives it; keys look like names.
    *("'Paris'", "'zh'", "'blue'", "'New York'"),
    # A code of success in a field for errors.
    '{"error_code": 200, "data": [1]}',
    '{"error_code": 200, "error_message": "Success", "data": {"a": 1}}',
    # A number that is no code, a state that is not the call's.
    '{"city": "Atlanta", "code": 404}',
    '{"name": "Room 404", "code": 404}',
    '{"code": "⁴⁰⁴"}',
    '{"email": "a@b.c", "result": "invalid"}',
    '{"order_id": 1, "status": "failed"}',
    '{"order_id": 1, "status": "Failed", "message": "The card was declined."}',
    '{"test": "unit", "result": "fail"}',
    # Sentences about the world, and names.
    "The Luna 25 mission failed to land on the Moon in 2023.",
    "The army was unable to open the gates.",
    "The climbers could not reach the summit in 1924.",
    "Visitors cannot access the tower in winter.",
    "A visa is required for stays over 90 days.",
    "The ticket is not valid on Sundays.",
    "Applicants must be at least 18 years old.",
    "Applicants must provide a passport.",
    "Smoking is forbidden in parks.",
    "Forbidden City, Beijing",
    "An unauthorized biography of the king.",
    "Unknown Pleasures is an album by Joy Division.",
    "Unknown Mortal Orchestra",
    "Unknown to many, the tower is older.",
    "Illegal fishing is a problem.",
    "He gave the wrong address to the police.",
    "The wrong date was printed on the first edition.",
    "Missing values are common in surveys.",
    "Access Denied is a film.",
    "Bad Request is a band from Ohio.",
    "The network error rate fell by 3 percent.",
    "HTTP 404 explained: a page about codes",
    "The HTTP status code 404 means that a page is gone.",
    "Room 404 is free",
    # Titles.
    '{"title": "Missing value imputation", "type": "article"}',
    '{"title": "HTTP 404 explained", "url": "https://x.y/404"}',
    '{"title": "The Forbidden City", "text": "The Forbidden City is a palace."}',
    '{"description": "A visa is required for stays over 90 days."}',
]


@pytest.mark.parametrize("text", HARD_NEGATIVES)
def test_results_that_only_look_like_errors_are_all_right(text):
    status = classify_feedback(text, mode="structured")
    assert (status.is_error, status.category) == (False, "all_right"), status


# What the guards against the texts above must not let through.
NEAR_ERRORS = [
    *("'related_searches'", "'channel_results'", "'_embedded'", "'data'"),
    *('{"error_code": 2001}', '{"errors": [[[[[[[[[[[[1]]]]]]]]]]]]}'),
    *('{"code": 401}', '{"code": 404, "message": "Not here"}'),
    '{"code": 500, "description": "The server is down"}',
    *('{"status": "failed"}', '{"status": "failed", "reason": "quota"}', '{"result": "error"}'),
    '{"status": "FAILED", "comment": "contestId: Contest with id 9 not found"}',
    '{"status": "fail", "data": {"title": "A title is required"}}',
    *("Failed to parse: x", "Sorry, unable to do that", "We are unable to process your request"),
    *("The server failed to respond", "Request failed: unable to connect to host"),
    *("Could not reach the server", "Unable to open file x", "Cannot access file x"),
    *("API key is required", "city is required", "'city' is required", "The city is required."),
    *("Authentication is required", "You must provide a city", "limit must be between 1 and 9"),
    *("start_date must be greater than end_date", "the parameter q is invalid"),
    *("Forbidden", "403 Forbidden", "Access is forbidden", '{"message": "Forbidden"}'),
    *("Unauthorized", "You are not authorized to access this"),
    *("Missing argument: city", "Request failed: bad value", "Your call has an unknown field"),
    *("Invalid city", "Unknown user bob", "Unsupported currency XYZ", "Unknown error"),
    *("HTTP 404", "HTTP 404: Not Found", "HTTP/1.1 404 Not Found", "HTTP error 503: busy"),
    *("status code: 500", "Request failed with status code 404"),
]


@pytest.mark.parametrize("text", NEAR_ERRORS)
def test_errors_in_few_words_are_errors(text):
    assert classify_feedback(text, mode="structured").is_error


def test_unknown_modes_are_refused():
    with pytest.raises(ValueError, match="reference, structured"):
        classify_feedback("x", mode="fuzzy")


MCP = "meta=None content=[TextContent(type='text', text='"


@pytest.mark.parametrize(
    "text",
    [
        "{" * 100_000,
        "[" * 19_000,
        "{" + "-" * 19_000 + "1}",
        "{'a': " + "(" * 9_000 + "}",
        "no " * 160_000,
        "'" + "a " * 250_000,
        "\n" * 500_000,
        "a: " * 160_000,
        "error " * 80_000,
        "meta=" * 100_000,
        MCP + "', annotations=] structuredContent=" * 14_000 + " isError=False",
        MCP + "[" * 19_000 + "', annotations=None)] isError=False",
        '{"response": "' + "[" * 9_000 + '"}',
        "field " * 80_000 + "required",
        "line 1: " * 60_000,
        "a_b " * 100_000,
        "Failed. " * 60_000,
        *('{"error": ' + "[" * depth + "]" * depth + "}" for depth in (8, 300, 900)),
        '{"status": ' + "[" * 900 + "]" * 900 + "}",
        '{"error": ' + '{"a": ' * 900 + "1" + "}" * 901,
    ],
)
def test_hostile_feedback_is_judged_quickly(text):
    begin = time.process_time()
    for mode in ("structured", "reference"):
        classify_feedback(text, mode=mode)
    assert time.process_time() - begin < 0.5


def mcp(text, failed, inner=None):
    """A Model Context Protocol result as Python writes it."""
    if inner is not None:
        content = [{"type": "text", "text": text, "annotations": None}]
        text = json.dumps({"_meta": None, "content": content, "isError": inner}, indent=2)
    piece = f"TextContent(type='text', text={text!r}, annotations=None)"
    return f"meta=None content=[{piece}] isError={failed}"


@pytest.mark.parametrize(
    ("text", "is_error", "category"),
    [
        (mcp("'path' is a required property", True), True, "parameter_missing"),
        (mcp("Error: ENOENT: no such file", False, True), True, "content_filling"),
        (mcp('{"status": "error", "message": "Package not found"}', False, False), True,
         "content_filling"),
        (mcp("it's \"quoted\" and fine", False), False, "all_right"),
        (mcp("Heading 'Errors' added", False, False), False, "all_right"),
        (mcp("[]", False, False), False, "nothing_found"),
        ('{"content": [{"type": "text", "text": "No such page"}], "isError": true}', True,
         "content_filling"),
    ],
)  # fmt: skip
def test_wrapped_results_are_judged_by_their_flag_and_then_by_their_text(text, is_error, category):
    status = classify_feedback(text, mode="structured")
    assert (status.is_error, status.category) == (is_error, category)

"""The built-in rules by which tool feedback is judged, as data: patterns, key names, phrases.

``feedback.py`` applies them. Every pattern is searched in a short piece of text (``HEAD``
characters or less) and has only bounded repeats over wide classes, so that judging takes linear
time. Rules of a user's own go into ``mae.extra_rules`` (``mae_rules.py``), not here.
"""

from __future__ import annotations

import re

HEAD = 400
"""Characters of a plain text that are searched; of a longer one, only its first and last line."""

REFERENCE_PHRASES = (
    "is not defined",
    "positional argument",
    "unexpected keyword",
    "'related_searches'",
    "ConnectionError",
    "not supported",
    "Invalid API call",
    "Response error",
    "Object of type SerpResults is not JSON serializable",
    "400 Client Error",
    "slice indices must be integers or None or have an __index__ method",
    "connection error",
    '"error":',
)
"""Phrases of the published script; the all-embracing ``"error":`` last, for telling reasons."""

CATEGORY_RULES = tuple(
    (category, re.compile(pattern, re.IGNORECASE))
    for category, pattern in (
        (
            "format_error",
            r"\bno (?:\w+ ){0,2}(?:code|call|action|command) (?:was |were )?found in (?:your|the)\b"
            r"|\byour (?:response|reply|output) (?:should|must) (?:be|follow|contain)\b"
            r"|\b(?:arguments?|action input|parameters) (?:is|are|was|were) not (?:a )?valid json\b"
            r"|^format your \w+ (?:command|call|action|code)\b"
            r"|\bdid not contain (?:\w+ ){0,3}(?:code|call|action|command)\b"
            r"|\b(?:cannot|could not|unable to|failed to) parse (?:the )?(?:arguments|action|tool"
            r"|function|call)\b|\binvalid (?:call|action) format\b",
        ),
        (
            "tool_hallucination",
            r"\bname '\w+' is not defined|\b(?:unknown|invalid|no such) (?:tool|function|action)\b"
            r"|\b(?:tool|function|action)\b.{0,60}\b(?:not found|(?:does|do) not exist|unknown"
            r"|(?:is )?not (?:defined|available|one of|a valid (?:tool|function|action)))\b",
        ),
        (
            "parameter_hallucination",
            r"\bunexpected keyword\b|\btakes \d+ positional arguments? but\b"
            r"|\b(?:unknown|unrecogni[sz]ed|unexpected|extra) "
            r"(?:parameter|argument|field|input)s?\b"
            r"|\badditional propert|\b(?:parameter|argument|field)s? .{0,60}\b(?:not allowed"
            r"|not permitted|do(?:es)? not exist|not recogni[sz]ed)\b",
        ),
        (
            "parameter_missing",
            r"\bmissing \d+ required\b|\brequired positional argument\b|\bfield required\b"
            r"|\brequired (?:property|parameter|argument|field)\b"
            r"|[\"']message\W{1,12}required\b"
            r"|\bmissing (?:\w+ ){0,3}(?:parameter|argument|field|value|key|operand|property)s?\b"
            r"|\b(?:parameter|argument|field)s? .{0,40}\b(?:missing|required|not provided)\b"
            r"|\b(?:is|are) (?:a )?(?:required|mandatory)\b|\bmust be (?:provided|specified|set)\b"
            r"|\b(?:must|need to|have to|please) (?:provide|specify|supply|enter)\b"
            r"|\bcan(?:not| not) (?:both )?be (?:none|null|empty|blank)\b",
        ),
        (
            "service",
            r"\brate.?limit|\btoo many requests\b|\bquota\b|\btimed? ?out\b|\bunavailable\b"
            r"|\bconnection\w* ?(?:error|refused|reset|aborted|timeout)\b|\bconnectionerror\b"
            r"|\b(?:can't|cannot|could not|unable to|failed to) (?:connect|reach|launch"
            r"|initiali[sz]e|start|retrieve|fetch|load)\b"
            r"|\bmax retries\b|\bun-?authori[sz]ed\b|\bnot authori[sz]ed\b|\bforbidden\b"
            r"|\baccess denied\b|\bapi.?key\b|\bpermission\b|\bnot subscribed\b|\bsubscription\b"
            r"|\binternal (?:server )?error\b|\binternal server\b|\bbad gateway\b|\bmaintenance\b"
            r"|\bserializable\b|\bresponse error\b|\bexpecting value\b|\bindex out of range\b"
            r"|\bendpoint\b.{0,60}\b(?:not found|do(?:es)? not exist)\b"
            r"|\bhas no attribute\b|\bslice indices\b|\bnot subscriptable\b|\bSSL\b|\bproxy\b",
        ),
        (
            "content_filling",
            r"(?<![a-z])invalid|\bnot (?:a )?(?:valid|allowed|recogni[sz]ed|enough)\b"
            r"|\bunsupported\b"
            r"|\bnot[- ]supported\b|\binsufficient\b|\balready\b|\bunconverted data\b"
            r"|\b(?:must|should|may not|cannot|can't|can not|has to) be\b|\bbad request\b"
            r"|\bincorrect\b|\bunprocessable\b|\bout of range\b|\bmalformed\b|\bwrong\b"
            r"|\b(?:un)?able to parse\b|\bsyntax\b|\bambiguous\b|\billegal\b|\bunrecogni[sz]ed\b"
            r"|\b(?:greater|less|more|longer|shorter) than\b|\bexceeds?\b|\badd up\b"
            r"|\b(?:do(?:es)? not|do(?:es)?n't) (?:exist|match|have|belong)\b|\bno such\b"
            r"|\b(?:could not|failed to) (?:parse|convert)\b|\bexpected\b|\bnot[ _-]found\b"
            r"|\bunexpected\b|\bunknown\b|\bvalidation\b|\b(?:Value|Type|Key|Syntax)Error\b"
            r"|\bnot (?:a )?(?:in|available|possible|match|exist)\b|\bplease (?:use|try|call)\b"
            r"|\bmust\b|\bcannot\b|\bcan't\b|\b(?:may|can) only\b|\bcould not be found\b"
            r"|\bshould\b|\btoo (?:many|few|far|long|short|large|small)\b|\bfile exists\b"
            r"|\brequires\b|\barguments?\b|^usage\b",
        ),
    )
)
"""(category, pattern) of an error's text. Order decides: the first whose pattern occurs."""

NO_RESULTS = re.compile(
    r"\bno\b[^.\"|\n]{0,60}\b(?:found|available|exists?)\b"
    r"|\bno (?:\w+ ){0,3}(?:match(?:es|ing)?|results?|records?|data|entries|hits)\b"
    r"|\b(?:0|zero) (?:results|matches|records|items|rows|hits)\b"
    r"|\bnothing (?:was )?found\b|\bfound (?:no|nothing|0)\b"
    r"|\b(?:did|does|do) not (?:return|match|have) any\b"
    r"|\b(?:could not|couldn't|cannot|can't|did not|unable to) find any\b",
    re.IGNORECASE,
)
"""A search whose result is empty, whatever else the text says."""

NOT_FOUND = re.compile(
    r"\b(?:not|never)[ _-](?:be )?found\b|\b(?:could not|couldn't|can't|cannot) find\b"
    r"|(?:^|<title>|\b(?:http|error|code|status))\W{0,3}404\b(?!\s[a-z])",
    re.IGNORECASE,
)
"""One named thing that is not there: for a search an empty result, else a wrong value."""

NOT_A_SEARCH = re.compile(
    r"\b(?:tool|function|action|method|endpoint|route|command|parameter|argument|attribute|module"
    r"|api|page|path|url|key)\b[^.]{0,40}\bnot found\b"
    r"|\b(?:code|call|action|command) (?:was |were )?found in (?:your|the)\b",
    re.IGNORECASE,
)

SEARCH_TOOL = re.compile(
    r"(?:^|[_.\-\s/])(?:search|find|query|look_?up|filter|autocomplete|suggest)", re.IGNORECASE
)
"""Names of tools that search: what they do not find is no mistake of the call."""

DECLINED = re.compile(
    r"^unavailable\b|\bis (?:unavailable|not available|(?:already )?booked|fully booked)\b"
    r"|^(?:reservation|booking|request|order) (?:failed|declined|rejected)\b",
    re.IGNORECASE,
)
"""A sound call that is answered with no, in a document without any sign of an error."""

# Sure signs in a plain text or in one that was cut off; each needs its word boundaries.
EXCEPTION_RULES = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        (
            "exception name",
            r"(?m)^\s{0,20}(?:[\w.]{1,80}\.)?[A-Z]\w{0,60}(?:Error|Exception)\b(?=\s{0,5}(?:[:(]|$))"
            r"|\bTraceback \(most recent call last\)",
        ),
        # str() of a Python KeyError: the key where a tool expected its results, or one that is
        # plainly a name. Any other text in quotes is a value.
        (
            "exception text",
            r"^'(?:(?=[a-z]*_)[a-z_][a-z0-9_]{1,60}|errors?|data|results?|response|items|records|list"
            r"|reviews|markets|content|choices|features|values?)'$",
        ),
        (
            "exception text",
            r"\bname '\w+' is not defined|\brequired positional argument|\bunexpected keyword arg"
            r"|\btakes \d+ positional arguments? but|\bslice indices must be|\bhas no attribute\b"
            r"|\bnot JSON serializable\b|\bindex out of range\b|\bis not subscriptable\b"
            r"|\binvalid literal for\b|^Expecting value: line|\bunsupported operand\b"
            r"|\bcould not convert\b|\bnot callable\b|\bMax retries exceeded\b",
        ),
        ("SQL state", r"^\d{4} \([0-9A-Z]{5}\):"),
    )
)

_CANNOT = r"(?:can't|cannot|can not|could not|couldn't|unable to|failed to)"
# What follows speaks about the call, not about the world: nothing stands before it in its sentence.
_STARTS = r"(?:^|[:.!;(\n-]\s{0,3})\W{0,5}"
_SPEAKER = (
    r"(?:(?:sorry|unfortunately|oops)\W{1,3})?(?:(?:we|i|it|you|(?:(?:the|this|that|your|api) )?"
    r"(?:server|service|request|tool|api|function|call|action|operation|system|client|query|command"
    r"|download|upload|search|script|program|page|browser|module|connection|app|application))"
    r" (?:(?:has|have|had|is|are|was|were|am) )?)?"
)
_INPUT = (
    r"(?:parameter|argument|value|input|field|property|key|token|header|query|body|payload|url"
    r"|password|username|credential|authentication|authori[sz]ation|login|format|id)s?"
)
_NAMED = r"(?:[\"'`\])>]|\b[a-z0-9]+_\w+|\b[a-z]+[A-Z]\w*|(?i:\b" + _INPUT + r"))"
PHRASE_RULES = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        (
            "phrase",
            r"(?i)^\W{0,20}(?:an? |the )?(?:\w+ ){0,2}error\b"
            r"(?=\s{0,5}(?:[:!.(-]|$|code|while|when|occurred|executing|running|calling))"
            r"|(?i:(?<!no )\berror (?:occurred|while|when|code)\b)|(?im:^\W{0,20}error\b)"
            r"|(?i:<title>[^<]{0,80}\b(?:error|not (?:be )?found|denied)\b)"
            r"|(?i:(?<!no )\berror\W{0,20}$)"
            r"|(?i:\b(?:response|connection|server|client|request|internal|network|parse|syntax"
            r"|validation|runtime|http|ssl|api|database|timeout|unknown) error\b(?! rates?\b))",
        ),
        (
            "phrase",
            # "Gave a wrong address" and "Missing values are common" speak of the world.
            r"(?i)(?:\b(?:invalid|unsupported|illegal|unrecogni[sz]ed)|(?:" + _STARTS + r"(?:the )?"
            r"|\b(?:due to|because of|has|have|contains?|received|got) (?:an? )?)"
            r"(?:unknown|missing|bad|wrong)(?! (?:\w+ ){1,2}(?:is|are|was|were)\b)) "
            r"(?:\w+ )?(?:parameter|argument|value|input|api|request|format|field|key|token|tool"
            r"|function|action|command|date|id|url|query|syntax|address|credentials?|option)s?\b",
        ),
        (
            "phrase",
            r"(?i)\b(?:access denied|permission denied|rate limit(?:ed)?\b.{0,20}\b(?:exceeded"
            r"|reached)|rate limited|too many requests|timed out|connection ?(?:refused|reset"
            r"|aborted)|internal server|bad gateway|service unavailable|not[- ]supported"
            r"|unprocessable|bad request|not a valid)\b(?! (?:is|was) (?:an?|the)\b)",
        ),
        (
            "phrase",
            r"(?i)" + _STARTS + r"(?:un-?authori[sz]ed|not authori[sz]ed|forbidden)\b"
            r"(?=\s{0,3}(?:$|[^\w\s,]|access|request|user|client|api|to\b|for\b))"
            r"|\b(?:40[13]|access|request|error|status|client|user|you are|token)\W{1,3}"
            r"(?:is |was )?(?:un-?authori[sz]ed|not authori[sz]ed|forbidden)\b"
            r"|\bnot authori[sz]ed to (?:access|perform|use|view|make|call|do)\b"
            # "Unknown Pleasures" and "Illegal fishing is ..." begin a name or a sentence.
            r"|^\W{0,5}(?:unknown\b(?! to\b)(?! (?-i:[A-Z][a-z]))|(?:unrecogni[sz]ed|invalid"
            r"|unsupported|illegal)\b)(?![^.:;\n'\"`]{0,60}\b(?:is|are|was|were|has|have|had)\b)",
        ),
        (
            "phrase",
            r"(?i)" + _STARTS + _SPEAKER + r"(?:failed to|unable to)\b"
            r"|\b(?:failed to|unable to) (?:parse|fetch|retrieve|load|connect|execute|decode"
            r"|authenticate|resolve|initiali[sz]e|deserialize|validate|import|download|upload)\b"
            r"|" + _STARTS + r"(?!an? )(?:the )?(?:[\w.-]+ ){1,3}(?:is|are) required\W{0,3}$"
            r"|\b(?:is|are) required (?:to (?:access|use|call|perform)|for this)\b"
            r"|\b(?:is|are) not valid(?: (?:json|xml|utf)|\W{0,3}(?:$|[.:;,\n]))"
            r"|(?:" + _STARTS + r"|\b(?:you|request|caller) )must (?:provide|specify)\b"
            r"|\bmust (?:provide|specify) (?:an? |the |one of |either |at least )?\W?"
            + _INPUT
            + r"\b|\bmust be (?:an? )?(?:integer|string|boolean|list|array|one of)\b",
        ),
        (
            "phrase",
            # A name of a parameter is near.
            _NAMED + r"[\w\W]{0,30}? (?i:(?:is|are) (?:required|not valid|invalid|missing)"
            r"|must be (?:an? )?(?:number|valid|positive|between|greater|less|at least|at most))\b"
            r"|^\W{0,5}(?:[a-z]\w* ){1,2}must be (?:an? )?(?:number|valid|positive|between"
            r"|greater|less|at least|at most)\b",
        ),
        (
            "phrase",
            r"(?i)\bno (?:\w+ ){0,2}(?:code|call|action|command) (?:was |were )?found in"
            r" (?:your|the)\b|^format your \w+ (?:command|call|action|code)\b"
            r"|\b(?:endpoint|tool|function|action|method|route|resource|parameter|table|column"
            r"|file|user|channel)\b.{0,60}\bdo(?:es not|esn't) exist\b"
            r"|(?:"
            + _STARTS
            + _SPEAKER
            + _CANNOT
            + r" (?:reach|open|access)|\b"
            + _CANNOT
            + r" (?:connect|parse|load|execute|authenticate))\b",
        ),
    )
)
"""(name, pattern) of phrases that tell an error in a short text or in a document's message."""

PROGRAM_MESSAGE = re.compile(
    r"^(?:/[\w./-]{1,60}|[a-z][\w.+-]{0,30}|\[)(?: \(\w{1,12}\))?: "
    r"(?![\"\[{|>]|'(?![./~])).{0,200}?\b(?i:"
    + _CANNOT
    + r"|(?:invalid|unrecogni[sz]ed|unknown|illegal|ambiguous) (?:\w+ ){0,2}(?:option|argument"
    r"|predicate|primary|regexp?|expression|character|mode|number|suffix|context|byte|date|user)"
    r"|missing (?:\w+ ){0,2}(?:operand|argument|expression)|no such file|permission denied"
    r"|(?:not|is) a directory|command not found|syntax error|requires an? argument|extra operand"
    r"|must precede|too (?:many|few) arguments|unexpected (?:EOF|token|end)|exiting now"
    r"|not recoverable|failure status|operation not permitted|bad (?:option|substitution)"
    r"|usage|operator expected|omitting directory|run time error|may not specify|too long"
    r"|division by zero)\b"
    r"|\bline \d{1,5}: (?:syntax error|unexpected EOF)\b"
    r"|^Try [`'][^'\n]{1,60}(?:--help|--usage|-h)[^\n]{0,60} for more information"
)
"""How command line programs complain; a complaint in the last line is what became of the call."""

_AFTER_CODE = (
    r"(?=\s{0,3}(?:$|[^\w\s]|bad\b|un|forbidden|not\b|internal|service|too\b|gateway|conflict|gone"
    r"|error|client|server|for\b|from\b|on\b|while|returned|response|method|payment|request|time))"
)
HTTP = re.compile(
    r"(?i)\b([45]\d\d) (?:client|server) error\b|\bHTTP(?:/[\d.]{1,5})?[ :]{0,3}"
    r"(?:status|error|code){0,2}[ :]{0,3}([45]\d\d)\b" + _AFTER_CODE + r"|\bstatus[ _]?code"
    r"[\"']?\s{0,3}[:=]?\s{0,3}([45]\d\d)\b" + _AFTER_CODE + r"|^\W{0,5}(?:error\W{1,3})?"
    r"([45]\d\d)\W{1,3}(?:bad request|unauthorized|forbidden|not found|internal server"
    r"|service unavailable|too many|gateway)"
)
"""A status of the protocol, told as such: at its end or before its reason."""
CUT_ERROR_KEY = re.compile(
    r"[\"']errors?[\"']\s*:(?!\s*(?:\[\s*\]|\{\s*\}|null\b|None\b|\"\"|''|[Ff]alse\b|0\b))"
)
"""A filled error key near the start of a JSON document that was cut off."""

MCP_REPR = ("meta=", " content=[TextContent(type='text', text=", ", annotations=")
"""What the Python text form of a Model Context Protocol result begins with, and has before and
after the text in it."""
MCP_FLAG = re.compile(r"\bisError=(?P<error>True|False)$")
MCP_ERROR = re.compile(r"\bisError[\"']?\s?[:=]\s?true\b.{0,40}$", re.IGNORECASE | re.DOTALL)

URL = re.compile(r"https?://\S+")

ERROR_KEYS = frozenset(
    "error errors err errormessage errormsg errorcode errordescription exception fault traceback "
    "nonfielderror nonfielderrors validationerrors".split()
)
CODE_KEYS = frozenset("status statuscode code errorcode httpstatus httpcode cod".split())
EXIT_KEYS = frozenset("exitcode exitstatus returncode".split())
"""Keys of how a program ended; any other number than 0 says that it failed."""
OUTPUT_KEYS = frozenset("stderr output stdout".split())
FLAG_KEYS = frozenset(("iserror", "haserror"))
VAGUE_CODE_KEYS = frozenset(("code", "cod"))
"""Keys of a status, but also of an area or a product: only in a report of how the call went."""
MESSAGE_KEYS = frozenset("message msg detail details text description reason".split())
TITLE_KEYS = frozenset("title note comment".split())
"""They explain an error that something else tells; alone they are part of a result."""
PLAIN_MESSAGE_KEYS = frozenset("message msg detail".split())
REPORT_KEYS = (
    ERROR_KEYS
    | CODE_KEYS
    | MESSAGE_KEYS
    | frozenset(
        "type documentationurl success ok succeeded state result path timestamp requestid traceid "
        "instance help moreinfo comment note".split()
    )
)
"""Keys of a document that tells how a call went and nothing else."""
WRAPPER_KEYS = frozenset("status meta header response result fault".split())
CONTAINER_KEYS = frozenset(
    "result results response data items records list hits matches documents articles entries rows "
    "events products businesses hotels flights places quotes".split()
)
COUNT_KEYS = frozenset("total totalresults totalitems totalhits count numresults found".split())
BAD_STATUS = frozenset("error err nok exception".split())
VAGUE_STATUS = frozenset("fail failed failure invalid".split())
"""What an order or a checked address can be, too: only in a report of how the call went."""
EMPTY_TEXT = frozenset(("", "0", "none", "null", "false", "ok", "success", "no error", "200"))

"""The report's filter is the language of `where`: JavaScript and Python give the same values, and refuse the same."""

import json
import shutil
import subprocess
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest

import popcat
from popcat.errors import PopcatError
from popcat.expression_functions import KNOWN
from popcat.expressions import column, parse

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no node on the path: apt install nodejs")

FRAME = pd.DataFrame({
    "object_id": np.array([1237648704586000123, -7, 2**62, 0, 5]), "flags": [0, 64, 2048 + 1, 2864, 33],
    "n": [5, -6, 7, 0, 3], "x": [1.5, -2.25, np.nan, 0.0, 40.0], "y": [2.0, 0.5, 1.0, -0.0, 1e-9],
    "status": ["ok", "ok", "no_photometry", "ok", "café"], "good": [True, False, True, True, False],
    "mag-g": [17.0, 18.5, 19.0, 20.25, np.nan], "NMGY[2]": [1.0, 2.0, 3.0, 4.0, 5.0],
})  # fmt: skip

EXPRESSIONS = [
    popcat.CLEAN, f"not ({popcat.CLEAN})", "x > 0", "good", "not good", "~good", "status == 'ok'", 'status != "ok"',
    "object_id == 1237648704586000123", "object_id == 1237648704586000124", "object_id > 4611686018427387903",
    "flags & 64 != 0", "flags & 2048 == 0", "flags & 1 << 5", "flags >> 5 & 1 == 1", "n << 62", "n << 64", "n >> 70",
    "n >> -1", "flags | 1 ^ 3 & n", "~flags", "~flags + 1 == -flags",
    "-2 ** 2", "2 ** -1.0", "2 ** 3 ** 2", "n ** 2 % 7 // 2", "x ** y", "x ** 0.5",
    "1.0 ** x", "2 * x + n / 2", "n // 2", "n // -2", "n % 4", "n % -4", "n // 0", "n % 0", "n / 0", "x // y", "x % y",
    "x // 0.75", "x % -0.75", "-x // 0.1", "x - -x", "- -n", "+n", "n - 1 - 2", "n / 2 / 2", "8 // 3 * 3 + 8 % 3",
    "-7 <= n < 7", "0 < x < y * 100 <= 200", "n == x", "n < y", "good == True", "good == 1", "good + 1", "good + good",
    "good * good", "good & (x > 0) | (n == 5) ^ good", "5 * (n > 0) + 2 * good", "(n > 0) - 2", "good / 2",
    "x > 0 or n > 0 and not good", "not x > 0 and n > 0", "not not good", "x > 0 and n > 0 and good or n == 7",
    "status < 'p'", "status == 'o' 'k'", "status == 'café'", "status >= \"no\"", "'it\\'s' == \"it's\"",
    "`mag-g` * 2", "`mag-g` < 19 and status == 'ok'", "NMGY[2] > 2", "`NMGY`[2] + NMGY[ 2 ]",
    "abs(n)", "abs(x)", "abs(good)", "exp(x)", "exp(n)", "log(x)", "log10(n)", "sqrt(x)", "sqrt(n) > 2",
    "isfinite(x)", "not isfinite(x)", "isfinite(n)", "isfinite(x) and x > 0 or n > 0", "where(x > 0, n, -n)",
    "where(isfinite(x), x, n)", "where(good, x, y)", "where(good, n, 2.5)", "where(n > 0, x > 0, good)",
    "where(good, where(n > 0, x, y), coalesce(x, 1.0))", "coalesce(x, -1.0)", "coalesce(x, n)",
    "coalesce(x, log(x), y)",
    "coalesce(log(x), 0.0)", "coalesce(x > 0, True)", "coalesce(n, 2)", "coalesce(x, x) > 0", "coalesce(x, 0) + x",
    "coalesce(`mag-g`, 99.0) > 20",
    "isfinite(log(x))", "isfinite(n / 0)", "minimum(n, 2)", "maximum(x, n)", "minimum(x, y,)", "maximum(log(x), 1)",
    "abs(minimum(x, 0))", "log10(x) != 1", "0x1F + 0b101 + 0o17", "1_000 + .5 + 5. + 1e3 + 1.5E-2", "n > -0.5",
    "False or good", "good and True", "( ( x ) )", "(x\n> 0)", "  n  ",
    "x == 1e400", "00 + n",
]  # fmt: skip

REFUSED = [
    "", "   ", "1 +", "x >", "(x", "x)", "x y", "x = 1", "x.real", "x[n]", "x[-1]", "x[0:2]", "x[1.0]", "(x, y)", "()",
    "[x]", "{1: 2}", "lambda: 1", "x if good else y", "n in (5, 6)", "n is 3", "n not in status", "n := 3", "import os",
    "None", "None == x", "f'{x}'", "b'x'", "x @ y", "x; y", "*x", "...", "open('a')", "eval('1')", "print(n)",
    "abs()",
    "abs(x, n)", "abs(x, out=n)", "minimum(x)", "log1o(x)", "where(x, n, n)", "where(good, n)",
    "coalesce(x)", "coalesce(n, good)", "where(good, n, good)", "coalesce(status, 'a')", "where(good, status, 'a')",
    "__import__('os')", "constructor(x)", "toString(x)",
    "x == not good", "2 ** not good", "1x", "012", "1__0", "0x", "'open", "x $ y", "x ? y", "x && y", "x || y", "!good",
    "x <> y", "x === y", "x++", "`", "``", "await x", "x" * 3000, "(" * 900 + "x" + ")" * 900,
    "x & 1", "n & x == x", "x\n> 0 0", "x and good", "not n", "good and n",
    "status > 3", "status + 'a'", "status & 1", "abs(status)", "-good",
    "n << 'a'", "~x", "good & 1", "good - good", "9999999999999999999999", "n ** -1", "x + status",
    "9223372036854775807 + 1", "9223372036854775807 * n * n", "n ** 63 * 8", "10 ** 40", "9.0 ** 9 ** 99 ** 1",
]  # fmt: skip

HARNESS = """
const script = process.argv[1], { rows, texts } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const { parseExpression, evaluateExpression, conjunctsOf } =
  new Function(script + "; return { parseExpression, evaluateExpression, conjunctsOf };")();
const kinds = { i: BigInt, f: Number };
const typed = ([kind, value]) => (value === null || !(kind in kinds) ? value : kinds[kind](value));
const shown = (value) => value === null ? ["missing", null]
  : [typeof value, typeof value === "boolean" ? value : String(value)];
const answers = texts.map((text) => {
  try {
    const parsed = parseExpression(text);
    return { columns: parsed.columns, conjuncts: conjunctsOf(text),
      values: rows.map((row) => shown(evaluateExpression(parsed, (name) => typed(row[name])))) };
  } catch (error) {
    return { error: `${error.name}: ${error.message}` };
  }
});
console.log(JSON.stringify(answers));
"""


def in_node(texts):
    """What the page's script makes of each text, for each row of FRAME."""
    script = (files("popcat") / "data" / "pages" / "expressions.js").read_text(encoding="utf-8")
    kinds = {name: "s" if name == "status" else FRAME[name].dtype.kind for name in FRAME}
    rows = [{name: [kinds[name], _plain(row[name], kinds[name])] for name in FRAME} for _, row in FRAME.iterrows()]
    done = subprocess.run([NODE, "-e", HARNESS, script], input=json.dumps({"rows": rows, "texts": texts}),
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _plain(value, kind):
    if kind == "f":
        return None if np.isnan(value) else repr(float(value))
    return str(int(value)) if kind == "i" else bool(value) if kind == "b" else value


def in_python(text):
    """Values of the expression for each row, as pairs of kind and value."""
    values, expression = column(FRAME, text), parse(text)
    sources = {name: FRAME[name].to_numpy() for name in expression.columns}
    _, gone = expression.evaluate(sources, {name: FRAME[name].isna().to_numpy() for name in sources})
    missing = np.broadcast_to(gone, len(FRAME))
    kinds = {"b": "boolean", "i": "bigint", "f": "number"}
    return [("missing", None) if gone else (kinds[np.asarray(value).dtype.kind], value)
            for value, gone in zip(values, missing, strict=True)]  # fmt: skip


@pytest.fixture(scope="module")
def answers():
    return dict(zip([*EXPRESSIONS, *REFUSED], in_node([*EXPRESSIONS, *REFUSED]), strict=True))


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_the_page_computes_what_where_computes(text, answers):
    answer = answers[text]
    assert "error" not in answer, answer
    assert answer["columns"] == list(parse(text).columns)
    for (kind, value), (expected_kind, expected) in zip(answer["values"], in_python(text), strict=True):
        assert kind == expected_kind
        if kind == "number":
            np.testing.assert_allclose(float(value.replace("Infinity", "inf")), expected, rtol=1e-14)
        elif kind != "missing":
            assert (int(value) if kind == "bigint" else value) == expected


@pytest.mark.parametrize("text", REFUSED)
def test_the_page_refuses_what_where_refuses_in_words(text, answers):
    with pytest.raises((PopcatError, KeyError)):
        in_python(text)
    assert answers[text].get("error", "").startswith("Error: "), answers[text]


def test_the_page_has_every_function_but_those_of_sdss_flags():
    (answer,) = in_node(["nothing(x)"])
    assert answer["error"].split("there are ")[1].split(", ") == [f for f in KNOWN if not f.startswith("sdss_")]


ADDRESSES = """
const script = process.argv[1], pairs = JSON.parse(require("fs").readFileSync(0, "utf8"));
const { readAddress, addressOf } = new Function(script + "; return { readAddress, addressOf };")();
console.log(JSON.stringify(pairs.map(([hash, there]) => [readAddress(hash), there ? addressOf(there) : null])));
"""


@pytest.mark.parametrize(
    ("hash_", "where", "galaxy"),
    [("", "", None), ("#table", "", None), ("#galaxy=-7", "", "-7"), ("#where=n % 4 == 1", "n % 4 == 1", None),
     ("#where=x > 0 and flags & 64 == 0", "x > 0 and flags & 64 == 0", None),
     ("#where=n%20%%204%20==%201", "n % 4 == 1", None),
     ("#where=flags%20%26%2064%20!%3D%200&galaxy=12", "flags & 64 != 0", "12"),
     ("#where=a & galaxy=b", "a & galaxy=b", None), ("#where=x + y > 1&galaxy=3", "x + y > 1", "3")],
)  # fmt: skip
def test_an_address_names_a_filter_and_a_galaxy(hash_, where, galaxy):
    script = (files("popcat") / "data" / "pages" / "address.js").read_text(encoding="utf-8")
    there = {"where": where, "galaxy": galaxy}
    def answers(pairs):
        return json.loads(subprocess.run([NODE, "-e", ADDRESSES, script], input=json.dumps(pairs), capture_output=True,
                                         text=True, check=True).stdout)  # fmt: skip
    ((read, written),) = answers([[hash_, there]])
    assert read == there
    assert answers([[written, None]])[0][0] == there


@pytest.mark.parametrize(
    ("text", "parts"),
    [(popcat.CLEAN, popcat.CLEAN.split(" and ")), ("x > 0", ["x > 0"]), ("x > 0 and (y > 0 or good) and good",
      ["x > 0", "(y > 0 or good)", "good"]), ("good and x > 0 or y > 0", ["good and x > 0 or y > 0"]),
     ("status == 'ham and eggs' and good", ["status == 'ham and eggs'", "good"])],
)  # fmt: skip
def test_conditions_joined_by_and_are_told_apart(text, parts):
    (answer,) = in_node([text])
    assert answer["conjuncts"] == parts

"use strict";
// Expressions over the columns of one row: popcat/expressions.py again, for the browser. No eval: the page's content
// security policy forbids it. Whole numbers are BigInt (int64), others Number (float64), conditions Boolean.

const EXPRESSION_LENGTH = 2000;
const NESTING = 100;
// Reserved in Python: none of them can be a column unless it stands between backquotes.
const RESERVED = new Set(("None and as assert async await break class continue def del elif else except finally for from "
  + "global if import in is lambda nonlocal not or pass raise return try while with yield").split(" "));
const TOKEN = new RegExp([
  "(?<space>\\s+)",
  "(?<number>0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO](?:_?[0-7])+"
    + "|(?:\\d(?:_?\\d)*\\.?(?:\\d(?:_?\\d)*)?|\\.\\d(?:_?\\d)*)(?:[eE][+-]?\\d(?:_?\\d)*)?)",
  "(?<name>[\\p{L}_][\\p{L}\\p{N}_]*)",
  "(?<quoted>`[^`]+`)",
  "(?<text>'(?:[^'\\\\\\n]|\\\\.)*'|\"(?:[^\"\\\\\\n]|\\\\.)*\")",
  "(?<sign>\\*\\*|//|<<|>>|<=|>=|==|!=|[-+*/%&|^~<>()\\[\\],])",
].join("|"), "uy");
const ESCAPES = { "\\": "\\", "'": "'", '"': '"', n: "\n", t: "\t" };

/** Tokens of a text, each with its kind, its text, and where it stands; throws what is wrong, in words. */
function tokensOf(text) {
  if (text.length > EXPRESSION_LENGTH) throw new Error(`expected at most ${EXPRESSION_LENGTH} characters, got ${text.length}`);
  const tokens = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const start = TOKEN.lastIndex;
    const found = TOKEN.exec(text);
    if (!found) throw new Error(misplaced(text, start));
    const [kind] = Object.entries(found.groups).find(([, value]) => value !== undefined);
    if (kind === "number" && /[\p{L}\p{N}_]/u.test(text[TOKEN.lastIndex] ?? "")) throw new Error(misplaced(text, TOKEN.lastIndex));
    if (kind !== "space") tokens.push({ kind, text: found[0], start, end: TOKEN.lastIndex });
  }
  return tokens;
}

function misplaced(text, at) {
  if (text[at] === "=") return 'for equality write "==", for example status == \'ok\'';
  return `"${text.slice(at, at + 12)}" is not understood; expected a condition such as log_mstar > 11 and flags == 0`;
}

/** A parsed expression: the columns that it reads, and its tree. */
function parseExpression(text) {
  const tokens = tokensOf(text);
  const columns = new Set();
  let at = 0;
  let depth = 0;
  const is = (...signs) => at < tokens.length && ["sign", "name"].includes(tokens[at].kind) && signs.includes(tokens[at].text);
  const take = (...signs) => (is(...signs) ? tokens[at++].text : null);
  const need = (sign) => { if (!take(sign)) throw new Error(`expected "${sign}" ${here()}`); };
  const here = () => (at < tokens.length ? `before "${text.slice(tokens[at].start, tokens[at].start + 12)}"` : "at the end");

  const joined = (word, part) => () => {
    const parts = [part()];
    while (take(word)) parts.push(part());
    return parts.length > 1 ? { is: word, parts } : parts[0];
  };
  const binary = (signs, part) => () => {
    let left = part();
    for (let sign = take(...signs); sign; sign = take(...signs)) left = { is: "binary", sign, parts: [left, part()] };
    return left;
  };
  const nested = (part) => {
    if (++depth > NESTING) throw new Error(`expected at most ${NESTING} levels of nesting`);
    const made = part();
    depth -= 1;
    return made;
  };

  const either = () => joined("or", joined("and", negated))();
  const negated = () => (take("not") ? { is: "not", parts: [nested(negated)] } : comparison());
  const comparison = () => {
    const parts = [bits()];
    const signs = [];
    for (let sign = take("==", "!=", "<", "<=", ">", ">="); sign; sign = take("==", "!=", "<", "<=", ">", ">=")) {
      signs.push(sign);
      parts.push(bits());
    }
    return signs.length ? { is: "compare", signs, parts } : parts[0];
  };
  const power = () => {
    const base = atom();
    return take("**") ? { is: "binary", sign: "**", parts: [base, nested(unary)] } : base;
  };
  const unary = () => {
    const sign = take("-", "+", "~");
    return sign ? { is: "unary", sign, parts: [nested(unary)] } : power();
  };
  const product = binary(["*", "/", "//", "%"], unary);
  const bits = binary(["|"], binary(["^"], binary(["&"], binary(["<<", ">>"], binary(["+", "-"], product)))));

  const atom = () => {
    const token = tokens[at];
    if (token === undefined) throw new Error("expected a column or a number at the end");
    if (take("(")) {
      const inside = nested(either);
      need(")");
      return inside;
    }
    at += 1;
    if (token.kind === "number") return { is: "constant", value: numberOf(token.text) };
    if (token.kind === "text") {
      let value = textOf(token.text);
      while (tokens[at]?.kind === "text") value += textOf(tokens[at++].text);
      return { is: "constant", value };
    }
    if (token.kind === "quoted") return column(token.text.slice(1, -1));
    if (token.kind !== "name" || RESERVED.has(token.text)) {
      at -= 1;
      throw new Error(`expected a column or a number ${here()}`);
    }
    if (token.text === "True" || token.text === "False") return { is: "constant", value: token.text === "True" };
    return is("(") ? call(token.text) : column(token.text);
  };
  const column = (base) => {
    let name = base;
    if (take("[")) {
      const index = tokens[at++];
      if (index?.kind !== "number" || typeof numberOf(index.text) !== "bigint") throw new Error(`expected ${base}[0], ${base}[1], ...`);
      need("]");
      name = `${base}[${numberOf(index.text)}]`;
    }
    columns.add(name);
    return { is: "column", name };
  };
  const call = (name) => {
    const known = Object.keys(EXPRESSION_FUNCTIONS);
    if (!known.includes(name)) throw new Error(`unknown function "${name}"; there are ${known.join(", ")}`);
    const { arity, most = arity, value, choice } = EXPRESSION_FUNCTIONS[name];
    const parts = [];
    need("(");
    while (!take(")")) {
      parts.push(nested(either));
      if (!is(")")) need(",");
    }
    if (parts.length < arity || parts.length > most) {
      throw new Error(`${name} takes ${most > arity ? "at least " : ""}${arity} argument${arity > 1 ? "s" : ""}, got ${parts.length}`);
    }
    return { is: choice ? "choice" : "call", value, parts };
  };

  const tree = either();
  if (at < tokens.length) throw new Error(`expected nothing ${here()}`);
  return { text, columns: [...columns], tree };
}

function numberOf(text) {
  const plain = text.replaceAll("_", "");
  if (/^0[xXbBoO]/.test(plain)) return BigInt(plain);
  if (/[.eE]/.test(plain)) return Number(plain);
  if (/^0+[1-9]/.test(plain)) throw new Error(`a whole number does not begin with zero: ${text}`);
  return BigInt(plain);
}

const textOf = (quoted) => quoted.slice(1, -1).replace(/\\(.)/gsu, (whole, letter) => {
  if (!(letter in ESCAPES)) throw new Error(`${whole} is not understood in a text`);
  return ESCAPES[letter];
});

/** The conditions that a text joins by `and`, as they are written; the whole text where it joins by something else. */
function conjunctsOf(text) {
  const tokens = tokensOf(text);
  const edges = [];
  let depth = 0;
  for (const token of tokens) {
    depth += { "(": 1, "[": 1, ")": -1, "]": -1 }[token.kind === "sign" ? token.text : ""] ?? 0;
    if (depth === 0 && token.kind === "name" && token.text === "or") return [text.trim()];
    if (depth === 0 && token.kind === "name" && token.text === "and") edges.push(token);
  }
  const starts = [0, ...edges.map((token) => token.end)];
  const ends = [...edges.map((token) => token.start), text.length];
  return starts.map((start, i) => text.slice(start, ends[i]).trim()).filter(Boolean);
}

/** The value of an expression for a row; null where a column that it reads is missing there, unless a function says else. */
function evaluateExpression(expression, valueOf) {
  const absent = (value) => value === null || value === undefined || Number.isNaN(value);
  const row = new Map(expression.columns.map((name) => [name, valueOf(name)]));
  for (const [name, value] of row) if (absent(value)) row.set(name, null);
  return valueOfNode(expression.tree, row);
}

/** Whether a row fulfils a condition; not where a column that it reads is missing. */
function fulfils(expression, valueOf) {
  const value = evaluateExpression(expression, valueOf);
  if (value !== null && typeof value !== "boolean") throw new Error("expected a condition such as log_mstar > 11");
  return value === true;
}

function valueOfNode(node, row) {
  if (node.is === "constant") return inRange(node.value);
  if (node.is === "column") return row.get(node.name);
  const parts = node.parts.map((part) => valueOfNode(part, row));
  if (node.is === "choice") return node.value(...parts.map(noText));
  if (["and", "or", "not"].includes(node.is)) parts.forEach(asCondition);
  if (parts.includes(null)) return null;
  switch (node.is) {
    case "and": return parts.every(Boolean);
    case "or": return parts.some(Boolean);
    case "not": return !parts[0];
    case "unary": return unaryOf(node.sign, parts[0]);
    case "binary": return binaryOf(node.sign, ...parts);
    case "compare": return node.signs.map((sign, i) => compared(sign, parts[i], parts[i + 1])).every(Boolean);
    default: return node.value(...parts.map(noText));
  }
}

function inRange(value) {
  if (typeof value === "bigint" && value >= 1n << 63n) throw new Error(`${value} is beyond 64 bits`);
  return value;
}

function asCondition(value) {
  if (value !== null && typeof value !== "boolean") throw new Error("and, or, not need conditions such as x > 0");
  return value;
}

function noText(value) {
  if (typeof value === "string") throw new Error("text can only be compared");
  return value;
}

/** A value as int64: whole numbers stored as floats too, up to 2^53. */
function asInteger(value) {
  if (typeof value === "bigint") return value;
  if (typeof value === "number" && !Number.isFinite(value)) return 0n;
  if (typeof value === "number" && Number.isSafeInteger(value)) return BigInt(value);
  throw new Error("bits need whole numbers below 2^53");
}

const wrapped = (value) => BigInt.asIntN(64, value);
const isWhole = (value) => typeof value === "bigint" || typeof value === "boolean";

function compared(sign, a, b) {
  if ((typeof a === "string") !== (typeof b === "string")) throw new Error("text is compared with numbers");
  const [left, right] = typeof a === "string" ? [a, b] : isWhole(a) && isWhole(b) ? [BigInt(a), BigInt(b)] : [Number(a), Number(b)];
  return { "==": left === right, "!=": left !== right, "<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right }[sign];
}

function unaryOf(sign, given) {
  const value = noText(given);
  if (sign === "~") return typeof value === "boolean" ? !value : wrapped(~asInteger(value));
  if (typeof value === "boolean") throw new Error(`a condition has no ${sign}`);
  return sign === "+" ? value : typeof value === "bigint" ? wrapped(-value) : -value;
}

const BITS = {
  "&": (a, b) => a & b, "|": (a, b) => a | b, "^": (a, b) => a ^ b,
  "<<": (a, b) => (b < 0n || b > 63n ? 0n : a << b), ">>": (a, b) => (b < 0n || b > 63n ? (a < 0n ? -1n : 0n) : a >> b),
};
const WHOLE = {
  "+": (a, b) => a + b, "-": (a, b) => a - b, "*": (a, b) => a * b, "//": (a, b) => (b === 0n ? 0n : (a - floorMod(a, b)) / b),
  "%": (a, b) => (b === 0n ? 0n : floorMod(a, b)), "**": wholePower,
};
const REAL = { "+": (a, b) => a + b, "-": (a, b) => a - b, "*": (a, b) => a * b, "//": realFloor, "%": realMod, "**": realPower };
/** Of whole numbers, what may need more than 64 bits: an error, never other digits. */
const GROWING = ["+", "-", "*", "**"];
const OF_CONDITIONS = { "+": (a, b) => a || b, "*": (a, b) => a && b, "&": (a, b) => a && b, "|": (a, b) => a || b, "^": (a, b) => a !== b };

function binaryOf(sign, a, b) {
  const [left, right] = [noText(a), noText(b)];
  if (typeof left === "boolean" && typeof right === "boolean") {
    if (sign === "-") throw new Error("conditions are not subtracted");
    if (sign in OF_CONDITIONS) return OF_CONDITIONS[sign](left, right);
  }
  if (sign in BITS) return wrapped(BITS[sign](asInteger(left), asInteger(right)));
  if (sign !== "/" && isWhole(left) && isWhole(right)) {
    if (GROWING.includes(sign) && Math.abs(REAL[sign](Number(left), Number(right))) >= 2 ** 63) throw new Error("whole numbers beyond 64 bits; multiply one by 1.0 to compute with 16 digits");
    return wrapped(WHOLE[sign](BigInt(left), BigInt(right)));
  }
  return sign === "/" ? Number(left) / Number(right) : REAL[sign](Number(left), Number(right));
}

/** The remainder that has the sign of the divisor, as in Python. */
function floorMod(a, b) {
  const rest = a % b;
  return rest !== 0n && (rest < 0n) !== (b < 0n) ? rest + b : rest;
}

function realMod(a, b) {
  const rest = a % b;
  return rest !== 0 && (rest < 0) !== (b < 0) ? rest + b : rest;
}

function realFloor(a, b) {
  return b === 0 ? a / b : Math.round((a - realMod(a, b)) / b);
}

function wholePower(base, exponent) {
  if (exponent < 0n) throw new Error("a whole number has no negative power: write 2.0 ** -1");
  let [result, square] = [1n, base];
  for (let rest = exponent; rest > 0n; rest >>= 1n) {
    if (rest & 1n) result = wrapped(result * square);
    square = wrapped(square * square);
  }
  return result;
}

/** As in C, 1 to any power is 1, and so is -1 to an infinite one. */
function realPower(a, b) {
  return a === 1 || (a === -1 && Math.abs(b) === Infinity) ? 1 : a ** b;
}

const real = (value) => ({ arity: 1, value: (a) => value(Number(a)) });
const extreme = (wins) => ({ arity: 2, value: (a, b) => {
  if (isWhole(a) && isWhole(b)) return wins(BigInt(a), BigInt(b)) ? a : b;
  const [left, right] = [Number(a), Number(b)];
  return Number.isNaN(left) || wins(left, right) ? left : right;
} });

/** Choices among numbers: int64 where all are whole, else float64; or among conditions. */
function asChosen(value, choices) {
  const kinds = new Set(choices.filter((one) => one !== null).map((one) => typeof one === "boolean"));
  if (kinds.size > 1) throw new Error("where and coalesce choose among numbers or among conditions, not both");
  return typeof value === "bigint" && choices.some((one) => typeof one !== "bigint") ? Number(value) : value;
}

const CHOICES = {
  isfinite: { arity: 1, choice: true, value: (a) => a !== null && Number.isFinite(Number(a)) },
  where: { arity: 3, choice: true, value: (test, a, b) => {
    const [either, other] = [asChosen(a, [a, b]), asChosen(b, [a, b])];
    return asCondition(test) === null ? null : test ? either : other;
  } },
  coalesce: { arity: 2, most: Infinity, choice: true, value: (...choices) => {
    const found = choices.find((one) => one !== null && !Number.isNaN(one));
    return asChosen(found === undefined ? choices.at(-1) : found, choices);
  } },
};

/** The functions of popcat/expression_functions.py but for those of SDSS's own flags, which no catalogue of popcat's has. */
const EXPRESSION_FUNCTIONS = {
  abs: { arity: 1, value: (a) => (typeof a === "bigint" ? (a < 0n ? -a : a) : typeof a === "boolean" ? a : Math.abs(a)) },
  exp: real(Math.exp), log: real(Math.log), log10: real(Math.log10), sqrt: real(Math.sqrt),
  minimum: extreme((a, b) => a <= b), maximum: extreme((a, b) => a >= b), ...CHOICES,
};

// The loop around a JavaScript function, evaluated once for each context, before the function's own source.
//
// It copies the built-in functions that it uses. So a function that changes globals or prototypes affects only its own
// results, and the server checks every result again. ADAPTER stands for the code of the schemas, `read` and `write`.
(function () {
  "use strict";
  for (const name of ["WebAssembly", "SharedArrayBuffer", "Atomics", "setTimeout", "clearTimeout", "__timer_manager"])
    if (!Reflect.deleteProperty(globalThis, name)) globalThis[name] = undefined;

  const uncurry = (method) => Function.prototype.call.bind(method);
  const { parse, stringify } = JSON;
  const { isArray } = Array;
  const { isFinite: finite, isInteger } = Number;
  const { keys, getPrototypeOf, defineProperty } = Object;
  const PLAIN = Object.prototype;
  const PROMISE = Promise;
  const text = String;
  const number = Number;
  const bigint = BigInt;
  const own = uncurry(PLAIN.hasOwnProperty);
  const slice = uncurry(String.prototype.slice);
  const isoText = uncurry(Date.prototype.toISOString);
  const time = uncurry(Date.prototype.getTime);
  const includes = uncurry(String.prototype.includes);
  const numberOf = uncurry(Number.prototype.valueOf);

  // Errors for values that are not of the output schema's type. A set identifies them, because reading the class of an
  // unknown object runs code of that object.
  const invalids = new WeakSet();
  const isInvalid = uncurry(WeakSet.prototype.has).bind(null, invalids);
  const addInvalid = uncurry(WeakSet.prototype.add).bind(null, invalids);
  const invalid = (rule) => {
    const error = { rule, path: "" };
    addInvalid(error);
    return error;
  };
  const under = (error, component) => {
    if (isInvalid(error)) {
      const joint = error.path === "" || error.path[0] === "[" ? "" : ".";
      error.path = component + joint + error.path;
    }
    return error;
  };
  const unlike = (type) => { throw invalid("is not of type " + type); };
  const set = (object, name, value) =>
    defineProperty(object, name, { __proto__: null, value, writable: true, enumerable: true, configurable: true });

  const isPlain = (value) => {
    if (typeof value !== "object" || value === null || isArray(value)) return false;
    const prototype = getPrototypeOf(value);
    return prototype === PLAIN || prototype === null;
  };
  const toText = (value) => (typeof value === "string" ? value : unlike("string"));
  const toBoolean = (value) => (typeof value === "boolean" ? value : unlike("boolean"));
  const toInteger = (value) => {
    if (typeof value !== "number") unlike("number");
    if (!isInteger(value)) throw invalid("is not an integer");
    return value;
  };
  const toBigInt = (value) => (typeof value === "bigint" ? text(value) : unlike("bigint"));
  const toFloat = (value) => {
    if (typeof value !== "number") unlike("number");
    return finite(value) ? value : text(value);
  };
  const toMoment = (value) => {
    if (typeof value === "string") return value;
    try { time(value); } catch { unlike("string"); }
    try { return isoText(value); } catch { throw invalid("is an invalid date"); }
  };
  const toJson = (value) => {
    if (typeof value === "function" || typeof value === "symbol" || typeof value === "bigint")
      throw invalid("is not a JSON value");
    return value;
  };
  const toArray = (value, element, type) => {
    if (!isArray(value)) unlike(type);
    const result = [];
    for (let index = 0; index < value.length; index++) {
      try {
        const item = value[index];
        result[index] = element(item === undefined ? null : item);
      } catch (error) { throw under(error, "[" + index + "]"); }
    }
    return result;
  };
  const toMap = (value, element) => {
    if (!isPlain(value)) unlike("object");
    const names = keys(value);
    const result = {};
    for (let index = 0; index < names.length; index++) {
      const name = names[index];
      try {
        const item = value[name];
        if (item !== undefined) set(result, name, element(item));
      } catch (error) { throw under(error, "[" + stringify(name) + "]"); }
    }
    return result;
  };
  const rejectUnknown = (names, known) => {
    for (let index = 0; index < names.length; index++)
      if (!own(known, names[index])) throw under(invalid("does not exist in the schema"), slice(names[index], 0, 60));
  };

  // JSON.stringify writes null for NaN and the infinities, for Number objects of these, and for invalid dates.
  const rejectNotFinite = (value) => {
    if (typeof value === "number" && !finite(value)) throw invalid("must be JSON, which has neither NaN nor infinities");
    if (typeof value !== "object" || value === null) return;
    if (isArray(value)) {
      for (let index = 0; index < value.length; index++) {
        try { rejectNotFinite(value[index]); } catch (error) { throw under(error, "[" + index + "]"); }
      }
    } else if (isPlain(value)) {
      const names = keys(value);
      for (let index = 0; index < names.length; index++) {
        try { rejectNotFinite(value[names[index]]); } catch (error) { throw under(error, slice(names[index], 0, 60)); }
      }
    } else {
      let wrapped = 0;
      try { wrapped = numberOf(value); } catch {
        try { if (!finite(time(value))) throw invalid("is an invalid date"); }
        catch (error) { if (isInvalid(error)) throw error; }
      }
      rejectNotFinite(wrapped);
    }
  };

  /*ADAPTER*/

  const part = (value, name, maximum) => {
    try {
      const found = value[name];
      return typeof found === "string" ? slice(found, 0, maximum) : "";
    } catch { return ""; }
  };
  const describe = (error) => {
    if (typeof error === "object" && error !== null)
      return [part(error, "name", 100), part(error, "message", 1000), part(error, "stack", 4000)];
    return [typeof error === "function" ? "a function was thrown" : slice(text(error), 0, 1000), "", ""];
  };
  const shape = (value) => {
    if (isPlain(value)) return "";
    if (value === undefined || value === null) return text(value);
    if (isArray(value)) return "an array";
    if (typeof value !== "object") return "a " + typeof value;
    return value instanceof PROMISE ? "a promise" : "an object of a class";
  };

  return (transform, maximum) => (batch) => {
    const records = parse(batch);
    let lines = "";
    for (let index = 0; index < records.length; index++) {
      let line;
      let result;
      if (typeof records[index] === "string") { // the reason why the record cannot be passed
        lines += "<" + stringify(records[index]) + "\n";
        continue;
      }
      try {
        result = transform(read(records[index]));
        const wrong = shape(result);
        line = wrong === "" ? "" : "?" + wrong;
      } catch (error) {
        line = "!" + stringify(describe(error));
      }
      if (line === "") {
        try {
          const written = write(result);
          line = stringify(written);
          if (typeof line === "string" && includes(line, "null")) rejectNotFinite(written);
          if (typeof line !== "string") line = "?an object with a toJSON method";
        } catch (error) {
          line = isInvalid(error) ? "-" + stringify([error.path, error.rule]) : "!" + stringify(describe(error));
        }
      }
      lines += line + "\n";
      if (lines.length > maximum) return "#";
    }
    return lines;
  };
})()

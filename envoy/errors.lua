-- Gives transcoded answers the status and body that the backend asked for in its metadata:
--   x-http-code  the HTTP status           x-http-body  the body, JSON in ASCII
-- and an error that asked for nothing (one that no interceptor of the backend saw) a general body: the transcoder would
-- print its text. Other metadata, such as retry-after, reaches the client as headers by itself. Answers to native gRPC and
-- gRPC-Web callers pass unchanged, and so do Envoy's own answers, which local_reply_config has shaped.
-- Before that, takes from the requests of REST callers the headers that the backend would break off the call for, and refuses
-- lists that the transcoder would misread and members of schemas that it would leave out.

local GENERAL = {
  ["400"] = {"BadRequest", "the request is not valid"},
  ["401"] = {"Unauthorized", "valid credentials are needed"},
  ["403"] = {"Forbidden", "these credentials do not allow this"},
  ["404"] = {"NotFound", "there is nothing here"},
  ["409"] = {"Conflict", "the request is in conflict with the present state"},
  ["413"] = {"PayloadTooLarge", "the request is too large"},
  ["429"] = {"TooManyRequests", "there are too many requests"},
  ["501"] = {"NotImplemented", "this is not implemented yet"},
  ["503"] = {"ServiceUnavailable", "the server cannot answer now"},
  ["504"] = {"Timeout", "the server did not answer in time"},
}
local UNKNOWN = {"InternalServerError", "the request could not be handled"}

local OURS = {
  "x-http-code", "x-http-body", "grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-accept-encoding",
  "x-envoy-upstream-service-time", "x-error-field",
}

local function is_grpc(headers)
  return (headers:get("content-type") or ""):find("application/grpc", 1, true) == 1
end

-- What a gRPC server takes for a mistake of its gateway, and answers by breaking off the call: names with characters that
-- gRPC does not have, and names that mean something to gRPC alone, with values that only gRPC clients get right.
local function is_refused_by_grpc(name)
  return name:find("[^0-9a-z_.:-]") or name:find("^grpc%-") or name:find("%-bin$")
end

-- The members that are lists, of the calls in which the transcoder's tolerance would change what is asked for: it takes a
-- value for a list of that value, leaves null out of a list, and an empty body for an empty object. Inner lists come first.
local LISTS = {
  ["PUT /v1/identity-resolution/settings"] = {"blockedValues", "blockedPresets", "guards", "identifiers"},
}

-- The members that are schemas, in which an unknown member is a mistake: the transcoder would leave it out. Pipelines have
-- theirs in both forms that the transcoder reads.
local PROFILE_SCHEMAS = {"schema"}
local PIPELINE_SCHEMAS = {"inSchema", "in_schema", "outSchema", "out_schema"}
local SCHEMAS = {
  ["PUT /v1/profiles/schema"] = PROFILE_SCHEMAS,
  ["PUT /v1/profiles/schema/preview"] = PROFILE_SCHEMAS,
  ["POST /v1/pipelines"] = PIPELINE_SCHEMAS,
  ["POST /v1/pipelines/try"] = PIPELINE_SCHEMAS,
}

-- Returns the members that are schemas in a call; nil if it has none.
local function schemas_of(call)
  return SCHEMAS[call] or call:find("^PUT /v1/pipelines/[^/]+$") and PIPELINE_SCHEMAS or nil
end

-- The members of types and properties: of the messages DataType and Property, in both forms that the transcoder reads.
local SCHEMA_MEMBERS = {}
for name in ([[
  kind properties elementType element_type minimum maximum bitSize bit_size unsigned real precision scale maxLength max_length
  charLen char_len maxBytes max_bytes pattern values minElements min_elements maxElements max_elements uniqueElements
  unique_elements name type prefilled createRequired create_required updateRequired update_required readOptional read_optional
  nullable description
]]):gmatch("%S+") do
  SCHEMA_MEMBERS[name] = true
end

-- Returns a body in which only names, null and punctuation are left: no text looks like them.
local function without_texts(text)
  return (text:gsub("\\.", "_"):gsub('"([^"]*)"', function(inside)
    return '"' .. inside:gsub("[^%w_]", "_") .. '"'
  end))
end

-- Returns what is wrong with the schemas of a body, and the member; nil if nothing is. Their depth and their other rules are the backend's.
local function wrong_schema(text, members)
  for _, member in ipairs(members) do
    for schema in text:gmatch('"' .. member .. '"%s*:%s*(%b{})') do
      for name in schema:gmatch('"([^"]*)"%s*:') do
        if not SCHEMA_MEMBERS[name] then
          return member .. " has the unknown member " .. name:sub(1, 100), member
        end
      end
    end
  end
end

-- Returns what is wrong with a list of a body, and the list's name; nil if nothing is.
local function wrong_list(text, names)
  for _, name in ipairs(names) do
    local member = '"' .. name .. '"%s*:%s*'
    for first in text:gmatch(member .. "(%S)") do
      if first ~= "[" and first ~= "n" then
        return name .. " must be an array", name
      end
    end
    for list in text:gmatch(member .. "(%b[])") do
      if list:find("[%[,]%s*null%s*[,%]]") then
        return name .. " must not have null as an element", name
      end
    end
  end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  if is_grpc(headers) then
    return
  end
  local call = headers:get(":method") .. " " .. (headers:get(":path") or ""):match("^[^?]*")
  local lists, schemas = LISTS[call], schemas_of(call)
  local refused = {}
  for name in pairs(headers) do
    if is_refused_by_grpc(name) then
      refused[#refused + 1] = name
    end
  end
  for _, name in ipairs(refused) do
    headers:remove(name)
  end
  if lists or schemas then
    local body = handle:body()
    local field
    local wrong = schemas ~= PIPELINE_SCHEMAS and "the body must be a JSON object" or nil
    if body ~= nil then
      local text = without_texts(body:getBytes(0, body:length()))
      if lists then
        wrong, field = wrong_list(text, lists)
      else
        wrong, field = wrong_schema(text, schemas)
      end
    end
    if wrong ~= nil then
      handle:respond({[":status"] = "400", ["x-error-field"] = field}, wrong)
    end
  end
end

-- The rules of fields that the transcoder could not fill, by its names of their types.
local RULES = {
  TYPE_INT32 = "must be an integer from -2147483648 to 2147483647",
  TYPE_INT64 = "must be an integer of 64 bits",
  TYPE_DOUBLE = "must be a number",
  TYPE_BOOL = "must be true or false",
  TYPE_STRING = "must be a string",
  TYPE_BYTES = "must be base64",
  ["type.googleapis.com/google.protobuf.Struct"] = "must be an object",
  ["type.googleapis.com/google.protobuf.Timestamp"] = "must be a time such as 2026-01-31T10:00:00Z",
}

local function json_name(path)
  return (path:gsub("_(%w)", string.upper))
end

-- Returns the transcoder's message (the inside of a JSON string) as one that names the member and the rule, and the path of
-- the member, if there is one.
local function plain(message)
  local path, value, kind = message:match("^([%w_.%[%]]+): invalid value (.*) for type ([%w_./]+)$")
  if path ~= nil then
    path = json_name(path)
    if value:find("^Starting an? %l+ on a scalar field$") then
      return path .. " must not be " .. value:match("^Starting (an? %l+)"), path
    end
    return path .. " " .. (RULES[kind] or "has an invalid value"), path
  end
  local field = message:match("^: invalid value Cannot bind a list to map for field '([%w_]+)'")
  if field ~= nil then
    return json_name(field) .. " must be an object", json_name(field)
  end
  field = message:match("^: invalid value Starting an object on a scalar field for type ([%w_]+)$")
  if field ~= nil then
    return json_name(field) .. " must not be an object", json_name(field)
  end
  local repeated = message:match("^: invalid value oneof field '[%w_]+' is already set%. Cannot set '([%w_]+)'")
  if repeated ~= nil then
    return json_name(repeated) .. " must not be repeated", json_name(repeated)
  end
  if message == ": Root element must be a message." then
    return "the body must be a JSON object"
  end
  if message == ": Proto field is not repeating, cannot start list." then
    return "the body has an array where its member is not an array"
  end
  -- What is wrong, then the place with a caret below it, in lines of their own.
  local wrong = message:match("^(.-)\\n.*%^$") or message:match("^(.-)\\u000a.*%^$")
  if wrong ~= nil then
    return "the body is not JSON: " .. wrong
  end
  return message
end

-- `field` is what this filter refused the request for, if it did.
local function make_plain(handle, field)
  local body = handle:body(true)
  local before, message, after = body:getBytes(0, body:length()):match('^({"error":{"code":"BadRequest","message":")(.*)"(}}%s*)$')
  if message ~= nil then
    local text, found = plain(message)
    field = field or found
    body:setBytes(before .. text .. '"' .. (field and ',"field":"' .. field .. '"' or "") .. after)
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  if is_grpc(headers) then
    return
  end
  local status = headers:get("x-http-code")
  local body = headers:get("x-http-body")
  local field = headers:get("x-error-field")
  local from_backend = headers:get("x-envoy-upstream-service-time") ~= nil
  if status == nil and from_backend and tonumber(headers:get(":status")) >= 400 then
    status = headers:get(":status")
    local known = GENERAL[status] or UNKNOWN
    body = string.format('{"error":{"code":"%s","message":"%s"}}', known[1], known[2])
  end

  -- All headers come before body(): once it has waited for the rest, this handle on them is dead.
  for _, name in ipairs(OURS) do
    headers:remove(name)
  end
  if status == nil then
    if not from_backend and headers:get(":status") == "400" then
      make_plain(handle, field)
    end
    return
  end
  headers:replace(":status", status)
  if status == "204" then
    headers:remove("content-type")
    handle:body(true):setBytes("")
    handle:headers():remove("content-length")
  elseif body ~= nil then
    headers:replace("content-type", "application/json")
    handle:body(true):setBytes(body)
  end
end

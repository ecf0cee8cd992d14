-- Answers HEAD as GET, without the body: the transcoder and the backend know no HEAD. Stands before the compressor, so that
-- the headers are those of GET. Only calls of HEAD come here.

function envoy_on_request(handle)
  handle:headers():replace(":method", "GET")
end

function envoy_on_response(handle)
  for chunk in handle:bodyChunks() do
    chunk:setBytes("")
  end
end

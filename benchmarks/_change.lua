-- Changes of 1,000 ConfigMaps of 1.5 KB in turn, each with a new value: BENCH_METHOD is PUT or PATCH (merge).
local method, count = os.getenv("BENCH_METHOD") or "PUT", 0
local start = tonumber(os.getenv("BENCH_RUN_NUMBER") or "0") * 1000000
local filler = string.rep("y", 1230)
local path = nil

request = function()
  path = path or wrk.path
  count = count + 1
  local name = string.format("change-%05d", count % 1000)
  local body, media
  if method == "PUT" then
    body = string.format('{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"%s"},"data":{"x":"%010d%s"}}',
      name, start + count, filler)
    media = "application/json"
  else
    body = string.format('{"data":{"seen":"%010d"}}', start + count)
    media = "application/merge-patch+json"
  end
  return wrk.format(method, path .. "/" .. name, {["Content-Type"] = media,
    ["Authorization"] = wrk.headers["Authorization"]}, body)
end

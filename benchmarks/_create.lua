-- Creates of ConfigMaps of 1.5 KB, each with a name of its own. The run's number comes from the environment.
local run, count = os.getenv("BENCH_RUN") or "0", 0
local filler = string.rep("y", 1240)

request = function()
  count = count + 1
  local body = string.format(
    '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"load-%s-%d","labels":{"app":"bench"}},"data":{"x":"%s"}}',
    run, count, filler)
  return wrk.format("POST", nil, {["Content-Type"] = "application/json",
    ["Authorization"] = wrk.headers["Authorization"]}, body)
end

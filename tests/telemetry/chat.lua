-- What wrk asks of a node: one question that is not streamed, by a visitor who is new each time.
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = '{"agentId":"a","stream":false,"messages":[{"role":"user","content":"hi"}]}'

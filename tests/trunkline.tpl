# How a load generator that is not of this project speaks to a server here: the README, "Beside other servers".
jwt_secret=bench-secret-of-at-least-32-bytes!!
jwt_claims={"sub":"{user}","scope":"publish topic:*","exp":4102444800}
path=/ws
header=Authorization: Bearer {jwt}
header=Sec-WebSocket-Protocol: trunkline.v1
hello={"type":"hello"}
hello.sub={"type":"hello","topics":["{topic}"]}
hello.pub={"type":"hello","producer":{"id":"bench"}}
ready=welcome
pub={"type":"publish","topic":"{topic}","name":"bench","data":{body}}
route={"type":"publish","user_id":"{user}","name":"bench","data":{body}}
echo={"type":"command","id":"e","name":"echo","args":{body}}

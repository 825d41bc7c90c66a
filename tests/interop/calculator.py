"""What the agent of `producer.py` does: it answers a question with a tool. It knows the events of a run and no more."""

import ast
import math
import operator
import re

OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
             ast.Div: operator.truediv, ast.USub: operator.neg}


def calculate(expression):
    """A tool. It walks the syntax tree and knows numbers and OPERATORS: no text of a user is ever run as code."""
    def value(node):
        match node:
            case ast.Constant(value=int() | float() as number): return number
            case ast.UnaryOp(op=op, operand=of): return OPERATORS[type(op)](value(of))
            case ast.BinOp(left=left, op=op, right=right): return OPERATORS[type(op)](value(left), value(right))
        raise ValueError("this is no sum")
    try:
        number = value(ast.parse(str(expression)[:200], mode="eval").body)
        return {"results": {"value": number}} if math.isfinite(number) else {"error": "too large"}
    except (ArithmeticError, KeyError, RecursionError, SyntaxError, ValueError) as error:
        return {"error": f"cannot compute this: {type(error).__name__}"}


def answer(question):
    """The events of a run. Each is worked out when it can be sent, so a server that reads slowly slows the agent down."""
    expression = max(re.findall(r"[\d.+*/() -]+", question), key=len, default="").strip()
    yield {"type": "agent_thinking", "thought": f"I compute {expression!r}."}
    yield {"type": "tool_executing", "tool_call_id": "1", "tool_name": "calculator", "parameters": {"expression": expression}}
    outcome = calculate(expression)
    yield {"type": "tool_completed", "tool_call_id": "1", **outcome}
    text = outcome.get("error") or f"{expression} = {outcome['results']['value']}"
    for word in re.findall(r"\S+\s*", text):
        yield {"type": "agent_delta", "part_id": "answer", "text": word}
    yield {"type": "agent_completed", "final_response": text}

#!/usr/bin/env python3
"""A custom API as a program: llama.cpp's own endpoint /completion.

    ringmark perf --url http://127.0.0.1:8080/completion --api tools/examples/api/llamacpp_native.py --model m \
        --prompt 'Hello' --max-tokens 32

Called with `build` it reads one prompt a line and prints one body a line, before the run; called with `parse` it reads
one stored answer a line and prints what it finds there, after the run. README.md beside this file has the fields.
"""

import json
import sys

# How the flags of ringmark are called here.
NAMES = {
    "max_tokens": "n_predict",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "stop": "stop",
}


def build(asked):
    """The body of one request."""
    if "prompt" in asked:
        prompt = asked["prompt"]
    elif "tokens" in asked:
        prompt = asked["tokens"]
    elif "messages" in asked:
        prompt = "".join(f"{message['role']}: {message['content']}\n" for message in asked["messages"]) + "assistant: "
    else:
        raise ValueError(f"this endpoint has no form for a prompt of {', '.join(asked)}")
    body = {"prompt": prompt, "stream": asked["stream"]}
    for name, value in asked["parameters"].items():
        if name in NAMES:
            body[NAMES[name]] = value
    return body


def parse(answer):
    """Token counts and text of one answer; `responses` has one element for each event, or the whole body."""
    text, last = "", {}
    for response in answer["responses"]:
        last = json.loads(response)
        text += last["content"]
    return {"input_tokens": last.get("tokens_evaluated"), "output_tokens": last.get("tokens_predicted"), "text": text}


def main():
    verbs = {"build": build, "parse": parse}
    if len(sys.argv) != 2 or sys.argv[1] not in verbs:
        sys.exit("usage: llamacpp_native.py build|parse")
    for line in sys.stdin:
        print(json.dumps(verbs[sys.argv[1]](json.loads(line)), ensure_ascii=False))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""A custom API as a program: llama.cpp's native endpoint /completion.

    ringmark perf --url http://127.0.0.1:8080/completion --api tools/examples/api/llamacpp_native.py --model m \
        --prompt 'Hello' --max-tokens 32

Before the run it is called with `build`: it reads one prompt per line and prints one request body per line. After the run
it is called with `parse`: it reads one stored response per line and prints its token counts and text. README.md in this
folder describes the fields.
"""

import json
import sys

# The names of ringmark's parameters in this API.
NAMES = {
    "max_tokens": "n_predict",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "stop": "stop",
}


def build(item):
    """The body of one request."""
    if "prompt" in item:
        prompt = item["prompt"]
    elif "tokens" in item:
        prompt = item["tokens"]
    elif "messages" in item:
        prompt = "".join(f"{message['role']}: {message['content']}\n" for message in item["messages"]) + "assistant: "
    else:
        raise ValueError(f"this endpoint does not support a prompt with {', '.join(item)}")
    body = {"prompt": prompt, "stream": item["stream"]}
    for name, value in item["parameters"].items():
        if name in NAMES:
            body[NAMES[name]] = value
    return body


def parse(item):
    """Token counts and text of one response; `responses` has one element per event, or the body."""
    text, last = "", {}
    for response in item["responses"]:
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

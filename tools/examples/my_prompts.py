#!/usr/bin/env python3
"""A dataset as a program: each line it prints is one request.

    ringmark perf --url http://127.0.0.1:8000/v1/chat/completions --dataset ./my_prompts.py --number 20

Everything is read before the clock starts, so this may take its time. A line is one JSON value:
  a string               one user message (on /v1/completions: the prompt)
  a list of messages     the chat, as it is sent
  {"messages": [...]}    the same
  any other object       a whole body; its fields win over the flags of the command line

What the run wants stands in the environment: RINGMARK_NUMBER (requests, warm-up included; missing when only time ends
the run), RINGMARK_OFFSET (prompts that will be left out at the start), RINGMARK_SEED, RINGMARK_MODEL. A program that
exits with another status than 0 ends the call, with the last line it wrote to standard error.
"""

import json
import os
import random

wanted = int(os.environ.get("RINGMARK_NUMBER", "100")) + int(os.environ.get("RINGMARK_OFFSET", "0"))
draw = random.Random(int(os.environ.get("RINGMARK_SEED", "0")))

CITIES = ["Lisbon", "Oslo", "Nairobi", "Lima", "Osaka", "成都"]

for number in range(wanted):
    city = draw.choice(CITIES)
    if number % 3 == 0:
        prompt = f"What should one see in {city} in {draw.randint(1, 5)} days?"
    elif number % 3 == 1:
        prompt = [
            {"role": "system", "content": "Answer in one sentence."},
            {"role": "user", "content": f"Where does the name {city} come from?"},
        ]
    else:
        prompt = {"messages": [{"role": "user", "content": f"Describe {city}."}], "max_tokens": 32}
    print(json.dumps(prompt, ensure_ascii=False))

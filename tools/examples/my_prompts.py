#!/usr/bin/env python3
"""A dataset as a program: each output line is one request.

    ringmark perf --url http://127.0.0.1:8000/v1/chat/completions --dataset ./my_prompts.py --number 20

The output is read before the measurement starts, so the program may be slow. A line is one JSON value:
  a string               one user message (on /v1/completions: the prompt)
  a list of messages     the chat, as it is sent
  {"messages": [...]}    the same
  any other object       a complete body; its fields take precedence over the flags of the command line

The parameters of the run are in the environment: RINGMARK_NUMBER (number of requests, including warm-up; not set if the run
is limited by time only), RINGMARK_OFFSET (number of prompts that are skipped at the start), RINGMARK_SEED, RINGMARK_MODEL, and, if these flags are given,
RINGMARK_DATASET_PATH, RINGMARK_DATASET_ARGS, RINGMARK_TOKENIZER_PATH, RINGMARK_MIN_PROMPT_LENGTH, RINGMARK_MAX_PROMPT_LENGTH.
If the program exits with a status other than 0, the call ends with the last line of its standard error.
"""

import json
import os
import random

count = int(os.environ.get("RINGMARK_NUMBER", "100")) + int(os.environ.get("RINGMARK_OFFSET", "0"))
rng = random.Random(int(os.environ.get("RINGMARK_SEED", "0")))

CITIES = ["Lisbon", "Oslo", "Nairobi", "Lima", "Osaka", "成都"]

for number in range(count):
    city = rng.choice(CITIES)
    if number % 3 == 0:
        prompt = f"What should one see in {city} in {rng.randint(1, 5)} days?"
    elif number % 3 == 1:
        prompt = [
            {"role": "system", "content": "Answer in one sentence."},
            {"role": "user", "content": f"Where does the name {city} come from?"},
        ]
    else:
        prompt = {"messages": [{"role": "user", "content": f"Describe {city}."}], "max_tokens": 32}
    print(json.dumps(prompt, ensure_ascii=False))

"""The one-call method in distilabel, run by an interpreter that has it: `python bench/data_distilabel.py JOB.json`.

JOB: {"address", "rows", "in_flight"}. The batch is as large as what may be in flight, which is its fastest setting
without replicas (its default of 50 is slower). Prints {"rows", "seconds"}.
"""

import json
import sys
import time

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration


def main(job):
    rows = [{"instruction": f"Please answer row {i}"} for i in range(job["rows"])]
    with Pipeline(name="bench") as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=job["in_flight"])
        teacher = OpenAILLM(
            base_url=job["address"], api_key="none", model="teacher", generation_kwargs={"max_new_tokens": 512}
        )
        ask = TextGeneration(llm=teacher, input_batch_size=job["in_flight"])
        load >> ask
    began = time.perf_counter()
    found = pipeline.run(use_cache=False)
    seconds = time.perf_counter() - began
    made = sum(row["generation"] is not None for row in found["default"]["train"])
    print(json.dumps({"rows": made, "seconds": seconds}))


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        main(json.load(file))

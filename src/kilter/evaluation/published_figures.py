"""Figures that others have published, and where: what `kilter eval --published` holds its own recomputation against."""

from __future__ import annotations

# WeOpenML/PandaLM, README: three annotators' labels, kappa by pairs, and judges against the majority in percent.
PANDALM_LABELS = {"tie": 105, "one": 422, "two": 472}
PANDALM_KAPPA = {
    ("annotator1", "annotator2"): 0.85, ("annotator1", "annotator3"): 0.88, ("annotator2", "annotator3"): 0.86
}  # fmt: skip
PANDALM_JUDGES = {  # accuracy, precision, recall, F1
    "pandalm-7b": (66.77, 57.38, 57.50, 57.43),
    "gpt-3.5-turbo": (71.07, 58.79, 57.36, 57.55),
}
# OpenMOSS/HalluQA, README: non-hallucination rate in percent. For Xverse-13B it prints 27.33, but the three parts that
# stand beside it (18.86 % of 175 questions, 24.64 % of 69, 32.52 % of 206) give 26.00, as its file does.
HALLUQA = {
    "ernie_bot": 69.33, "baichuan53b": 68.22, "chatglm_pro": 61.33, "sparkdesk": 60.00, "abab5.5-chat": 56.00,
    "gpt-4-0613": 53.11, "qwen-14b-chat": 46.89, "baichuan2-13b-chat": 42.44, "baichuan2-7b-chat": 40.67,
    "gpt-3.5-turbo-0613": 39.33, "xverse-13b-chat": 39.11, "xverse-7b-chat": 36.89, "chatglm2-6b": 34.89,
    "qwen-7b-chat": 31.78, "baichuan-13b-chat": 31.33, "chatglm-6b": 30.44, "qwen-14b": 36.22,
    "baichuan2-13b-base": 33.78, "qwen-7b": 29.78, "xverse-13b": 26.00, "baichuan-13b-base": 25.33,
    "baichuan2-7b-base": 25.33, "baichuan-7b-base": 22.22, "xverse-7b": 20.22,
}  # fmt: skip
# suzgunmirac/BIG-Bench-Hard, code-davinci-002-outputs/*_eval_metrics.jsonl: accuracy in percent, direct and with a
# chain of thought, rounded to two decimals.
BBH_CODEX = {
    "boolean_expressions": (88.40, 92.80), "causal_judgement": (63.64, 54.01), "date_understanding": (63.60, 87.20),
    "disambiguation_qa": (67.20, 76.00), "dyck_languages": (46.80, 56.80), "formal_fallacies": (52.40, 50.40),
    "geometric_shapes": (32.00, 54.40), "hyperbaton": (60.40, 66.40), "logical_deduction_five_objects": (32.40, 54.80),
    "logical_deduction_seven_objects": (26.00, 38.80), "logical_deduction_three_objects": (52.80, 87.60),
    "movie_recommendation": (84.80, 90.40), "multistep_arithmetic_two": (1.20, 47.60), "navigate": (50.40, 96.40),
    "object_counting": (45.20, 93.20), "penguins_in_a_table": (66.44, 79.45),
    "reasoning_about_colored_objects": (67.60, 91.60), "ruin_names": (75.20, 68.40),
    "salient_translation_error_detection": (62.00, 60.80), "snarks": (61.24, 59.55),
    "sports_understanding": (72.80, 97.60), "temporal_sequences": (77.60, 96.80),
    "tracking_shuffled_objects_five_objects": (20.40, 89.60),
    "tracking_shuffled_objects_seven_objects": (14.40, 85.60),
    "tracking_shuffled_objects_three_objects": (37.60, 78.40), "web_of_lies": (51.60, 95.20),
    "word_sorting": (50.40, 40.40),
}  # fmt: skip
# openai/grade-school-math: test problems solved, in percent, by its own verdicts.
GSM8K = {"6b_finetuning": 21.68, "6b_verification": 39.04, "175b_finetuning": 34.72, "175b_verification": 56.25}
# The Vicuna post (March 2023): GPT-4's summed scores of the two models in the order shown.
VICUNA = {
    "review_alpaca-13b_vicuna-13b": (583.0, 704.0),
    "review_bard_vicuna-13b": (664.0, 655.5),
    "review_gpt35_vicuna-13b": (693.0, 638.0),
    "review_llama_vicuna-13b": (513.0, 694.0),
    "review_llama-13b_vicuna-13b": (513.0, 694.0),
}
# lightblue-tech/M-IFEval, README: English, strict, share of instructions followed, in percent to one decimal.
IFEVAL = {
    "claude-3-opus-20240229": 87.3, "claude-3-5-sonnet-20240620": 88.1, "o1-mini-2024-09-12": 83.9,
    "gpt-4o-2024-08-06": 88.6, "gpt-4o-mini-2024-07-18": 86.0, "Qwen__Qwen2.5-32B-Instruct-GPTQ-Int4": 86.0,
    "Qwen__Qwen2.5-14B-Instruct-GPTQ-Int4": 84.2, "claude-3-haiku-20240307": 77.3,
    "Qwen__Qwen2.5-7B-Instruct-GPTQ-Int4": 80.6, "hugging-quants__Meta-Llama-3.1-8B-Instruct-AWQ-INT4": 80.1,
    "Qwen__Qwen2.5-3B-Instruct-GPTQ-Int4": 67.9, "mistralai__Mistral-7B-Instruct-v0.3": 59.0,
    "CohereForAI__aya-23-8B": 50.6, "Qwen__Qwen2.5-1.5B-Instruct-GPTQ-Int4": 49.5,
    "deepseek-ai__deepseek-llm-7b-chat": 48.9, "Qwen__Qwen2.5-0.5B-Instruct-GPTQ-Int4": 34.4,
}  # fmt: skip

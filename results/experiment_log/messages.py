"""The words of the log, a table a language: sentences with gaps, and the names of settings."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from huetune.data_tools.common.terminal import printable
from huetune.model.metrics import METRICS

SETTINGS = {
    "en": {
        "mse_weight": "MSE weight",
        "activation": "activation",
        "skip": "skip connection",
        "merge_units": "merge units",
        "positions": "position values",
        "dropout": "dropout",
        "dropout_of": "dropout of",
        "optimizer": "optimizer",
        "learning_rate": "learning rate",
        "decay": "decay of the learning rate",
        "weight_decay": "weight decay",
        "batching": "batches of",
        "batch_size": "batch size",
        "clip": "gradient clipping",
        "flips": "mirroring",
        "l2": "weight of L2",
        "initial": "first weights",
        "centered": "centered views",
        "encoder_side": "side of the encoder's square of patches",
        "averaging": "averaging of the weights",
        "epochs": "epochs",
        "seed": "seed",
    },
    "ko": {
        "mse_weight": "MSE Loss 가중치",
        "activation": "activation function",
        "skip": "skip connection",
        "merge_units": "merge layer unit 개수",
        "positions": "위치 정보 개수",
        "dropout": "dropout 비율",
        "dropout_of": "dropout 단위",
        "optimizer": "optimizer",
        "learning_rate": "learning rate",
        "decay": "learning rate decay",
        "weight_decay": "weight decay",
        "batching": "batch 구성 단위",
        "batch_size": "batch size",
        "clip": "gradient clipping",
        "flips": "이미지 좌우 반전",
        "l2": "L2 가중치",
        "initial": "초기 weight",
        "centered": "입력 중심화",
        "encoder_side": "encoder가 계산하는 patch 정사각형의 한 변",
        "averaging": "weight 평균",
        "epochs": "epoch 횟수",
        "seed": "seed",
    },
}

WORDS = {
    "en": {
        "title": "# {name}: {what} ({when})",
        "and": " and ",
        "percent": " %",
        "is": "{setting} {value}",
        "is_word": "{setting} {value}",
        "has": "{setting}",
        "has_not": "no {setting}",
        "photos": "Trained on **{training}** photos of {source}; {validation} more rank the epochs{kept}",
        "first": "Trained on the first **{training}** photos of {source} only; {validation} more rank the epochs{kept}",
        "kept": ", {test} are kept for the end",
        "epochs": "Epochs: **{done}**",
        "epochs_unknown": "Epochs: **{target}** or more; of an export only the best one is known",
        "epochs_of": "Epochs: **{done}** of {target}, {state}",
        "pruned": "then stopped by the scheduler",
        "failed": "then it failed: {error}",
        "running": "it still runs",
        "waiting": "it waits to be resumed",
        "interrupted": "then interrupted",
        "weight": "MSE weight: **{value}**",
        "settings": "All settings: {values}",
        "changes": "## What changed against {other}",
        "changed": "{other}, {when}, is the earlier model that differs least. Against it {changes}.",
        "changed_to": "the {setting} changed from {old} to {new}",
        "added": "the **{setting}** was added",
        "removed": "the **{setting}** was taken away",
        "nothing": "nothing changed but the seed",
        "training": "## Training log",
        "loss": "Final loss: **{loss}**",
        "loss_lower": "Final loss: **{loss}** (**{percent}** lower than that of {other}, which has the same MSE weight)",
        "loss_higher": "Final loss: **{loss}** (**{percent}** higher than that of {other}, which has the same MSE weight)",
        "loss_alone": "Final loss: **{loss}** (no earlier model has this MSE weight, which is part of the loss, and as many epochs)",
        "best": "Best epoch on held-out photos: **{epoch}**, {objective} **{score}** (skill {skill}); its weights are kept",
        "structure": "## Structure",
        "encoder_count": "Encoder: **{count}** parameters",
        "decoder_count": "Decoder: **{count}** parameters",
        "whole_count": "Whole model: **{count}** parameters",
        "encoder": "Encoder",
        "decoder": "Decoder",
        "whole": "The whole VAE",
        "same": "The layers are those of {other}, pictured there{but}.",
        "undrawn": "No pictures: Graphviz or pydot was not installed.",
        "results": "## Test results and verdict",
        "some": "{shown} of {count} test photos, spread evenly",
        "truth": "truth",
        "gray": "gray",
        "colorized": "colorized {number}",
        "figures": "{count} test photos: {metrics}",
        "figures_beside": "{other}: {metrics}",
        "final_check": "Final check on **{count}** photos that no trial has seen: {metrics}, mean of {trainings} trainings",
        "final_check_once": "Final check on **{count}** photos that no trial has seen: {metrics}, trained once, so without an interval",
        "final_metric": "{name} **{value}** (baseline {baseline}, grayscale {gray})",
        "interval": "{value}{unit} (95 % CI {low} to {high}{unit})",
        "again": "Trained again from {first} and {second} fresh seeds, its {objective} differs from that of {other} by {gap}: {verdict}.",
        "once": "Its {objective} on held-out photos is {score}, that of {other} {old} ({gap}): in this one training {verdict}. Each was trained once, which does not tell a model from its luck{remedy}.",
        "equal": "Its {objective} on held-out photos is {score}, just as that of {other}: {verdict}.",
        "better": "**it is better than {other}**",
        "worse": "**it is worse than {other}**",
        "alike": "**there is no significant difference to {other}**",
        "remedy": "; `{command}` tells",
        "baseline_again": "From {seeds} fresh seeds its {objective} on held-out photos is {score}, that of the mean-color baseline {baseline}: {verdict}.",
        "baseline_once": "Its {objective} on held-out photos is {score}, that of the mean-color baseline {baseline}: in one training {verdict}.",
        "baseline_better": "**it is better than the mean-color baseline**",
        "baseline_alike": "**there is no significant difference to the mean-color baseline**",
        "baseline_worse": "**it is worse than the mean-color baseline**",
        "at_baseline": "The best skill of {model} is {skill}: **its training stayed at the mean-color baseline**, so its score does not show how good its settings are.",
        "tested_better": "On the test photos **this one training is better than that baseline**: skill {skill}.",
        "tested_worse": "On the test photos **this one training is no better than that baseline**: skill {skill}.",
        "winner": "It is the winner of the search, whose checkpoint is this one.",
        "winner_replicate": "It is the winner of the search, whose checkpoint is that of a replicate, seed {seed}: {objective} {score}.",
        "stopped": "It was stopped after {done} of {target} epochs, so **nobody knows how it would have ended**.",
        "broken": "**It failed**, so there is no verdict on its figures.",
        "unfinished": "It is not finished, so **there is no verdict yet**.",
    },
    "ko": {
        "title": "# {name} : {what} ({when})",
        "and": " 및 ",
        "percent": "%",
        "is": "{setting} {value} 적용",
        "is_word": "{value} {setting} 적용",
        "has": "{setting} 추가 적용",
        "has_not": "{setting} 미적용",
        "photos": "{source} 의 이미지 **{training}장** 을 이용하여 학습 (epoch 평가용 {validation}장{kept} 별도)",
        "first": "{source} 의 처음 **{training}장** 의 이미지만 이용하여 학습 (epoch 평가용 {validation}장{kept} 별도)",
        "kept": ", 테스트용 {test}장",
        "epochs": "epoch **{done}회**",
        "epochs_unknown": "epoch **{target}회** 이상 (내보낸 모델은 가장 좋은 epoch 의 기록만 있음)",
        "epochs_of": "epoch **{done}회** (전체 {target}회 중, {state})",
        "pruned": "scheduler 에 의해 조기 종료",
        "failed": "실패 : {error}",
        "running": "학습 진행 중",
        "waiting": "학습 재개 대기 중",
        "interrupted": "학습 중단",
        "weight": "MSE Loss 가중치 : **{value}**",
        "settings": "전체 설정 : {values}",
        "changes": "## {other} 대비 변동 사항",
        "changed": "설정이 가장 비슷한 이전 모델인 {other} (**{when}**) 에서, {changes}",
        "changed_to": "{setting} 변경 ({old} → {new})",
        "added": "**{setting}** 추가 적용",
        "removed": "**{setting}** 제거",
        "nothing": "seed 외 변동 없음",
        "training": "## 학습 로그",
        "loss": "최종 Loss : **{loss}**",
        "loss_lower": "최종 Loss : **{loss}** (MSE Loss 가중치가 같은 {other} 대비 **{percent}** 감소)",
        "loss_higher": "최종 Loss : **{loss}** (MSE Loss 가중치가 같은 {other} 대비 **{percent}** 증가)",
        "loss_alone": "최종 Loss : **{loss}** (Loss 에 포함되는 MSE Loss 가중치 및 epoch 횟수가 같은 이전 모델 없음)",
        "best": "평가용 이미지 기준 최적 epoch : **{epoch}회차**, {objective} **{score}** (skill {skill}), 해당 epoch 의 가중치를 저장",
        "structure": "## 모델 구조",
        "encoder_count": "Encoder 파라미터 개수 **{count} 개**",
        "decoder_count": "Decoder 파라미터 개수 **{count} 개**",
        "whole_count": "전체 모델 파라미터 개수 **{count} 개**",
        "encoder": "Encoder 구조",
        "decoder": "Decoder 구조",
        "whole": "VAE 기반 모델의 전체 구조",
        "same": "{other} 모델과 layer 구성 동일{but}",
        "undrawn": "Graphviz 또는 pydot 이 설치되어 있지 않아 구조 이미지 생략",
        "results": "## 테스트 결과 및 총평",
        "some": "전체 테스트 이미지 {count}장 중 고르게 선택한 {shown}장",
        "truth": "원본",
        "gray": "흑백",
        "colorized": "컬러화 {number}",
        "figures": "테스트 이미지 {count}장 : {metrics}",
        "figures_beside": "{other} : {metrics}",
        "final_check": "학습 및 평가에 사용되지 않은 이미지 **{count}장** 에 대한 최종 검증 : {metrics}, {trainings}회 학습의 평균",
        "final_check_once": "학습 및 평가에 사용되지 않은 이미지 **{count}장** 에 대한 최종 검증 : {metrics}, 1회 학습이므로 신뢰구간 없음",
        "final_metric": "{name} **{value}** (평균 색상 {baseline}, 흑백 {gray})",
        "interval": "{value}{unit} (95% 신뢰구간 {low} ~ {high}{unit})",
        "again": "새로운 seed 로 각각 {first}회, {second}회 다시 학습한 결과 {other} 모델 대비 {objective} 차이가 {gap} 이므로, {verdict}.",
        "once": "평가용 이미지에 대한 {objective} 값이 {score} 이고 {other} 모델은 {old} 이므로 (차이 {gap}), 이번 학습에서는 {verdict}. 단, 각각 1회만 학습한 결과이므로 우연에 의한 차이일 수 있다{remedy}.",
        "equal": "평가용 이미지에 대한 {objective} 값이 {score} 이며 {other} 모델과 같으므로, {verdict}.",
        "better": "**{other} 모델보다 성능이 좋다** 고 할 수 있다",
        "worse": "**{other} 모델보다 성능이 좋지 않다** 고 할 수 있다",
        "alike": "**{other} 모델과 유의미한 성능 차이가 있다고 할 수 없다**",
        "remedy": " (확인 방법 : `{command}`)",
        "baseline_again": "새로운 seed 로 {seeds}회 다시 학습한 결과 평가용 이미지에 대한 {objective} 값이 {score} 이고 mean-color baseline (모든 부분을 평균 색으로 칠한 결과) 은 {baseline} 이므로, {verdict}.",
        "baseline_once": "평가용 이미지에 대한 {objective} 값이 {score} 이고 mean-color baseline (모든 부분을 평균 색으로 칠한 결과) 은 {baseline} 이므로, 이번 학습 1회에서는 {verdict}.",
        "baseline_better": "**mean-color baseline 보다 성능이 좋다** 고 할 수 있다",
        "baseline_alike": "**mean-color baseline 과 유의미한 성능 차이가 있다고 할 수 없다**",
        "baseline_worse": "**mean-color baseline 보다 성능이 좋지 않다** 고 할 수 있다",
        "at_baseline": "{model} 모델은 가장 높은 skill 이 {skill} 에 그쳐 **mean-color baseline 수준에 머물렀다**. 학습이 제대로 이루어지지 않은 것이므로, 이 결과로 설정의 성능을 평가할 수 없다.",
        "tested_better": "테스트 이미지에서는 이번 학습 1회의 skill 이 {skill} 이므로, **이 baseline 보다 성능이 좋다** 고 할 수 있다.",
        "tested_worse": "테스트 이미지에서는 이번 학습 1회의 skill 이 {skill} 이므로, **이 baseline 보다 성능이 좋다고 할 수 없다**.",
        "winner": "이 모델이 탐색의 최종 모델이며, 이 학습의 checkpoint 를 사용한다.",
        "winner_replicate": "이 모델이 탐색의 최종 모델이며, seed {seed} 로 다시 학습한 결과 ({objective} {score}) 의 checkpoint 를 사용한다.",
        "stopped": "전체 epoch {target}회 중 {done}회 만에 종료되었으므로, **끝까지 학습했을 때의 성능은 알 수 없다**.",
        "broken": "**학습에 실패** 하였으므로, 성능을 평가할 수 없다.",
        "unfinished": "학습이 끝나지 않았으므로, **아직 성능을 평가할 수 없다**.",
    },
}


class Language:
    """The words of one language.

    Args:
        name: a key of WORDS.
    """

    def __init__(self, name: str):
        self._name, self._words, self.names = name, WORDS[name], SETTINGS[name]

    def say(self, word: str, **gaps: Any) -> str:
        """Return a sentence with its gaps filled."""
        return self._words[word].format(**gaps)

    def joined(self, phrases: Sequence[str]) -> str:
        """Return phrases as a list in words; empty for none."""
        return self.say("and").join(part for part in (", ".join(phrases[:-1]), *phrases[-1:]) if part)

    def metrics(self, measured: Mapping[str, float]) -> str:
        """Return the metrics that logs show, each with its value, in a list."""
        return ", ".join(METRICS[name].label(self._name, measured[name]) for name in METRICS.shown if name in measured)

    def setting(self, name: str, value: Any) -> str:
        """Return what a setting is, in a few words."""
        word = "is_word" if isinstance(value, str) else "is"
        if isinstance(value, bool):
            word = "has" if value else "has_not"
        return self.say(word, setting=self.names[name], value=shown(value))


def shown(value: Any) -> str:
    """Return a setting's value as the log writes it: a weight of 4 is 4.0 there."""
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{text}.0" if isinstance(value, float) and text.isdigit() else text


def escaped(text: str) -> str:
    """Return text in which Markdown finds nothing of its own."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", printable(text))

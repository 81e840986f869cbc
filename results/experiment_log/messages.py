"""The texts of the experiment log in English and Korean: sentences with placeholders, and names of settings.

The Korean texts follow the hand-kept experiment log: plain style, and a space between a Latin word, a number or bold text
and the particle after it. No particle that depends on the last sound, such as 은/는 or 으로/로, follows a value.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from huetune.data_tools.common.terminal import printable
from huetune.model.metrics import METRICS

SETTING_NAMES = {
    "en": {
        "mse_weight": "MSE weight",
        "activation": "activation",
        "skip": "skip connection",
        "merge_units": "number of merge units",
        "positions": "number of position values",
        "dropout": "dropout",
        "dropout_of": "dropout unit",
        "optimizer": "optimizer",
        "learning_rate": "learning rate",
        "decay": "learning rate decay",
        "weight_decay": "weight decay",
        "batching": "batch unit",
        "batch_size": "batch size",
        "clip": "gradient clipping",
        "flips": "random mirroring",
        "l2": "L2 weight",
        "initial": "weight initialization",
        "centered": "centering of the context windows",
        "encoder_side": "side of the encoder's square of patches",
        "averaging": "weight averaging",
        "epochs": "number of epochs",
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
        "l2": "L2 regularization 가중치",
        "initial": "모델 가중치 초기화 방식",
        "centered": "입력 중심화",
        "encoder_side": "encoder 계산 영역 한 변의 patch 개수",
        "averaging": "모델 가중치 이동 평균 비율",
        "epochs": "epoch 횟수",
        "seed": "seed",
    },
}

ADJECTIVES = ("activation", "optimizer")
"""Settings whose value stands before their name in Korean, as in `silu activation function`."""

MESSAGES = {
    "en": {
        "title": "# {name}: {what} ({when})",
        "and": " and ",
        "percent": "%",
        "is": "{setting} {value}",
        "is_adjective": "{setting} {value}",
        "has": "{setting}",
        "has_not": "no {setting}",
        "photos": "Training photos: **{training}** from {source}; validation photos: {validation}{test_photos}",
        "first_photos": "Training photos: only the first **{training}** from {source}; validation photos: {validation}{test_photos}",
        "test_photos": "; test photos: {test}",
        "garden": "the built-in synthetic garden",
        "epochs": "Epochs: **{done}**",
        "epochs_unknown": "Epochs: **{target}** or more (an export contains only the best epoch)",
        "epochs_of": "Epochs: **{done}** of {target}, {state}",
        "pruned": "then stopped by the scheduler",
        "failed": "then failed: {error}",
        "running": "still running",
        "interrupted": "then interrupted",
        "weight": "MSE weight: **{value}**",
        "settings": "All settings: {values}",
        "changes": "## Changes from {other}",
        "changed": "The most similar earlier model is {other} ({when}). Compared with it, {changes}.",
        "changed_to": "the {setting} changed from {old} to {new}",
        "added": "the **{setting}** was added",
        "removed": "the **{setting}** was removed",
        "nothing": "only the seed changed",
        "training": "## Training log",
        "loss": "Final loss: **{loss}**",
        "loss_lower": "Final loss: **{loss}** (**{percent}** lower than that of {other}, which has the same MSE weight)",
        "loss_higher": "Final loss: **{loss}** (**{percent}** higher than that of {other}, which has the same MSE weight)",
        "loss_alone": "Final loss: **{loss}** (not comparable: no earlier model has the same MSE weight and number of epochs)",
        "best": "Best epoch on validation photos: **{epoch}**, {objective} **{score}** (skill {skill}); its weights are saved",
        "structure": "## Structure",
        "encoder_count": "Encoder: **{count}** parameters",
        "decoder_count": "Decoder: **{count}** parameters",
        "whole_count": "Whole model: **{count}** parameters",
        "encoder": "Encoder",
        "decoder": "Decoder",
        "whole": "The whole VAE",
        "same": "The layers are the same as those of {other}, see its pictures.",
        "same_but": "The layers are the same as those of {other}, see its pictures, but with {settings}.",
        "no_pictures": "No pictures: Graphviz or pydot is not installed.",
        "results": "## Test results and verdict",
        "some": "{shown} of {count} test photos, evenly spread",
        "truth": "original",
        "gray": "grayscale",
        "colorized": "colorized {number}",
        "metrics": "Test photos ({count}): {metrics}",
        "metrics_of_other": "{other} on the same photos: {metrics}",
        "final_check": "Final check on photos that no trial has seen (**{count}**): {metrics}; mean of {trainings} trainings",
        "final_check_once": "Final check on photos that no trial has seen (**{count}**): {metrics}; trained once, so without an interval",
        "final_metric": "{name} **{value}** (baseline {baseline}, grayscale {gray})",
        "interval": "{value}{unit} (95% CI {low} to {high}{unit})",
        "replicated": "With {first} and {second} fresh seeds, its mean {objective} differs from that of {other} by {gap}: {verdict}.",
        "once": "Its {objective} on validation photos is {score}, while that of {other} is {old} ({gap}): in this single training {verdict}. Each model was trained only once, so the difference may be due to chance{remedy}.",
        "equal": "Its {objective} on validation photos is {score}, the same as that of {other}: {verdict}.",
        "better": "**it is better than {other}**",
        "worse": "**it is worse than {other}**",
        "alike": "**there is no significant difference from {other}**",
        "remedy": "; find out with `{command}`",
        "baseline_replicated": "With {seeds} fresh seeds, its mean {objective} on validation photos is {score}, while that of the mean-color baseline is {baseline}: {verdict}.",
        "baseline_once": "Its {objective} on validation photos is {score}, while that of the mean-color baseline is {baseline}: in a single training {verdict}.",
        "baseline_better": "**it is better than the mean-color baseline**",
        "baseline_alike": "**there is no significant difference from the mean-color baseline**",
        "baseline_worse": "**it is worse than the mean-color baseline**",
        "at_baseline": "The best skill of {model} is {skill}: **its training stayed at the mean-color baseline**, so its score does not show how good its settings are.",
        "tested_better": "On the test photos, **this single training is better than the baseline**: skill {skill}.",
        "tested_worse": "On the test photos, **this single training is no better than the baseline**: skill {skill}.",
        "winner": "It is the winner of the search, represented by this checkpoint.",
        "winner_replicate": "It is the winner of the search, represented by the checkpoint of a replicate (seed {seed}, {objective} {score}).",
        "stopped": "It was stopped after {done} of {target} epochs, so **its final score is unknown**.",
        "broken": "**It failed**, so there is no verdict.",
        "unfinished": "Its training is not finished, so **there is no verdict yet**.",
    },
    "ko": {
        "title": "# {name} : {what} ({when})",
        "and": " 및 ",
        "percent": "%",
        "is": "{setting} {value} 적용",
        "is_adjective": "{value} {setting} 적용",
        "has": "{setting} 추가 적용",
        "has_not": "{setting} 미적용",
        "photos": "{source} 의 이미지 **{training}장** 을 이용하여 학습 (검증용 {validation}장{test_photos} 별도)",
        "first_photos": "{source} 의 처음 **{training}장** 의 이미지만 이용하여 학습 (검증용 {validation}장{test_photos} 별도)",
        "test_photos": ", 테스트용 {test}장",
        "garden": "내장 데이터셋 (synthetic garden)",
        "epochs": "epoch **{done}회**",
        "epochs_unknown": "epoch **{target}회** 이상 (내보낸 모델에는 가장 좋은 epoch 의 기록만 있음)",
        "epochs_of": "epoch **{done}회** (전체 {target}회 중, {state})",
        "pruned": "scheduler 에 의해 조기 종료",
        "failed": "학습 실패 : {error}",
        "running": "학습 진행 중",
        "interrupted": "학습 중단",
        "weight": "MSE Loss 가중치 : **{value}**",
        "settings": "전체 설정 : {values}",
        "changes": "## {other} 대비 변동 사항",
        "changed": "이전 모델 중 설정이 가장 비슷한 {other} (**{when}**) 에서, {changes}",
        "changed_to": "{setting} 변경 ({old} → {new})",
        "added": "**{setting}** 추가 적용",
        "removed": "**{setting}** 제거",
        "nothing": "seed 외 변동 사항 없음",
        "training": "## 학습 로그",
        "loss": "최종 Loss : **{loss}**",
        "loss_lower": "최종 Loss : **{loss}** (MSE Loss 가중치가 같은 {other} 대비 **{percent}** 감소)",
        "loss_higher": "최종 Loss : **{loss}** (MSE Loss 가중치가 같은 {other} 대비 **{percent}** 증가)",
        "loss_alone": "최종 Loss : **{loss}** (MSE Loss 가중치와 epoch 횟수가 모두 같은 이전 모델이 없어 비교 불가)",
        "best": "검증용 이미지 기준 최적 epoch : **{epoch}회차**, {objective} **{score}** (skill {skill}), 해당 epoch 의 모델 가중치를 저장",
        "structure": "## 모델 구조",
        "encoder_count": "Encoder 파라미터 개수 **{count} 개**",
        "decoder_count": "Decoder 파라미터 개수 **{count} 개**",
        "whole_count": "전체 모델 파라미터 개수 **{count} 개**",
        "encoder": "Encoder 구조",
        "decoder": "Decoder 구조",
        "whole": "VAE 기반 모델의 전체 구조",
        "same": "{other} 모델과 layer 구성 동일 (구조 이미지는 해당 모델 참고)",
        "same_but": "{other} 모델과 layer 구성 동일 (구조 이미지는 해당 모델 참고, 단 {settings})",
        "no_pictures": "Graphviz 또는 pydot 이 설치되어 있지 않아 구조 이미지 생략",
        "results": "## 테스트 결과 및 총평",
        "some": "전체 테스트 이미지 {count}장 중 고르게 선택한 {shown}장",
        "truth": "원본",
        "gray": "흑백",
        "colorized": "컬러화 {number}",
        "metrics": "테스트 이미지 {count}장 : {metrics}",
        "metrics_of_other": "같은 이미지에 대한 {other} 모델의 결과 : {metrics}",
        "final_check": "학습 및 검증에 사용되지 않은 이미지 **{count}장** 에 대한 최종 평가 : {metrics}, {trainings}회 학습한 결과의 평균",
        "final_check_once": "학습 및 검증에 사용되지 않은 이미지 **{count}장** 에 대한 최종 평가 : {metrics}, 1회만 학습하여 신뢰구간 없음",
        "final_metric": "{name} **{value}** (baseline {baseline}, 흑백 {gray})",
        "interval": "{value}{unit} (95% 신뢰구간 {low} ~ {high}{unit})",
        "replicated": "새로운 seed 로 각각 {first}회, {second}회 다시 학습한 결과 {other} 모델 대비 평균 {objective} 차이가 {gap} 이므로, {verdict}.",
        "once": "검증용 이미지에 대한 {objective} 값이 {score} 이고 {other} 모델은 {old} 이므로 (차이 {gap}), 이번 학습에서는 {verdict}. 단, 각각 1회만 학습한 결과이므로 우연에 의한 차이일 수 있다{remedy}.",
        "equal": "검증용 이미지에 대한 {objective} 값이 {score} 이며 {other} 모델과 같으므로, {verdict}.",
        "better": "**{other} 모델보다 성능이 좋다** 고 할 수 있다",
        "worse": "**{other} 모델보다 성능이 좋지 않다** 고 할 수 있다",
        "alike": "**{other} 모델과 유의미한 성능 차이가 있다고 할 수 없다**",
        "remedy": " (확인 방법 : `{command}`)",
        "baseline_replicated": "새로운 seed 로 {seeds}회 다시 학습한 결과 검증용 이미지에 대한 평균 {objective} 값이 {score} 이고 mean-color baseline (이미지 전체를 평균 색으로 칠한 결과) 은 {baseline} 이므로, {verdict}.",
        "baseline_once": "검증용 이미지에 대한 {objective} 값이 {score} 이고 mean-color baseline (이미지 전체를 평균 색으로 칠한 결과) 은 {baseline} 이므로, 이번 학습에서는 {verdict}.",
        "baseline_better": "**mean-color baseline 보다 성능이 좋다** 고 할 수 있다",
        "baseline_alike": "**mean-color baseline 과 유의미한 성능 차이가 있다고 할 수 없다**",
        "baseline_worse": "**mean-color baseline 보다 성능이 좋지 않다** 고 할 수 있다",
        "at_baseline": "{model} 모델은 가장 높은 skill 이 {skill} 에 그쳐 **mean-color baseline 수준에 머물렀다**. 학습이 제대로 이루어지지 않았으므로, 이 결과로는 설정의 성능을 평가할 수 없다.",
        "tested_better": "테스트 이미지에 대한 이번 학습의 skill 은 {skill} 이므로, **baseline 보다 성능이 좋다** 고 할 수 있다.",
        "tested_worse": "테스트 이미지에 대한 이번 학습의 skill 은 {skill} 이므로, **baseline 보다 성능이 좋다고 할 수 없다**.",
        "winner": "이 모델이 탐색에서 최종 선정된 모델이며, 이 학습의 checkpoint 를 사용한다.",
        "winner_replicate": "이 모델이 탐색에서 최종 선정된 모델이며, 새로운 seed 로 다시 학습한 결과 (seed {seed}, {objective} {score}) 의 checkpoint 를 사용한다.",
        "stopped": "전체 epoch {target}회 중 {done}회 만에 조기 종료되었으므로, **끝까지 학습했을 때의 성능은 알 수 없다**.",
        "broken": "**학습에 실패하였으므로**, 성능을 평가할 수 없다.",
        "unfinished": "학습이 끝나지 않았으므로, **아직 성능을 평가할 수 없다**.",
    },
}


class Language:
    """The texts of one language.

    Args:
        name: en or ko.
    """

    def __init__(self, name: str):
        self._name, self._messages, self.setting_names = name, MESSAGES[name], SETTING_NAMES[name]

    def text(self, key: str, **values: Any) -> str:
        """Return a message of `MESSAGES` with its placeholders filled."""
        return self._messages[key].format(**values)

    def join(self, phrases: Sequence[str]) -> str:
        """Return phrases as a list such as `a, b and c`; empty if there are none."""
        return self.text("and").join(part for part in (", ".join(phrases[:-1]), *phrases[-1:]) if part)

    def metrics(self, measured: Mapping[str, float]) -> str:
        """Return the metrics that logs show, each with its value, separated by commas."""
        return ", ".join(METRICS[name].label(self._name, measured[name]) for name in METRICS.shown if name in measured)

    def setting(self, name: str, value: Any) -> str:
        """Return a setting with its value, such as `MSE weight 4.0` or `no skip connection`."""
        key = "is_adjective" if name in ADJECTIVES else "is"
        if isinstance(value, bool):
            key = "has" if value else "has_not"
        return self.text(key, setting=self.setting_names[name], value=format_value(value))


def format_value(value: Any) -> str:
    """Return the value of a setting as the experiment log writes it, such as `4.0` for a weight of 4."""
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{text}.0" if isinstance(value, float) and text.isdigit() else text


def escape_markdown(text: str) -> str:
    """Return a text without control characters, with Markdown's special characters escaped."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", printable(text))

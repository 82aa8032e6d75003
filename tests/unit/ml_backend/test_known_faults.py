"""The faults that were proved of the best public YOLO backend, W1 to W26, and which test says that ours has none of them.

A fault that another file's tests hold off is named in `HELD_BY`; the others have theirs here, `test_wNN_…`.
"""

from __future__ import annotations

import ast
import json
import logging
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from ml_backend.batcher import Batcher
from ml_backend.detectors import Detector, Found
from ml_backend.models import Models
from tests.unit.ml_backend.helpers import (
    CONFIG,
    PROJECT,
    FakeDetector,
    FakeImages,
    a_box,
    a_client,
    predict,
    task,
    weights,
)

ROOT = Path(__file__).parents[3]
HERE = "tests/unit/ml_backend"
SECRET = "s3cret-0123456789abcdef0123456789abcdef"

HELD_BY: dict[str, dict[str, tuple[str, ...]]] = {
    "W1 polygon or brush without detections fails": {
        f"{HERE}/test_regions.py": ("test_nothing_found_is_an_empty_result",),
    },
    "W2 one unreadable image costs the batch": {
        f"{HERE}/test_protocol.py": (
            "test_an_image_that_cannot_be_had_leaves_an_empty_result",
            "test_an_unexpected_failure_of_one_image_costs_only_that_one",
            "test_a_model_that_fails_on_one_image_of_a_batch_costs_only_that_one",
        ),
        "tests/e2e/test_ml_protocol.py": ("test_one_broken_task_costs_only_itself",),
    },
    "W3 regions without original size, which exports leave out": {
        f"{HERE}/test_regions.py": ("test_a_rectangle_is_complete", "test_every_control_says_what_it_is"),
        "tests/integration/test_predictions_exported.py": (
            "test_every_predicted_region_is_in_the_export_or_listed_with_a_reason",
        ),
    },
    "W4 thresholds below the model's own do nothing": {
        f"{HERE}/test_protocol.py": ("test_the_threshold_is_given_to_the_model",),
        f"{HERE}/test_demo_model.py": ("test_a_low_threshold_shows_more",),
    },
    "W5 labels lost by their case, the last of two labels wins": {
        f"{HERE}/test_labels.py": (
            "test_labels_match_classes",
            "test_a_class_that_two_labels_claim_goes_to_the_first_and_is_reported",
        ),
    },
    "W6 options of the tracker fail": {
        f"{HERE}/test_videos.py": (
            "test_the_options_of_the_tracker_are_the_configs",
            "test_what_a_tracker_does_not_know_is_named",
        ),
    },
    "W7 timelines work once": {
        f"{HERE}/test_known_faults.py": ("test_w07_a_model_answers_again_and_again",),
        f"{HERE}/test_small_models.py": ("test_features_of_a_picture_are_the_same_every_time",),
        "tests/integration/test_timelines.py": (
            "test_annotations_are_learned_from_and_predicted_also_after_a_restart",
        ),
    },
    "W8 a trained classifier cannot be read again": {
        f"{HERE}/test_timeline_files.py": (
            "test_what_was_saved_is_there_after_a_restart_until_it_is_damaged",
            "test_what_is_no_classifier_is_refused_and_nothing_in_it_runs",
        ),
        "tests/integration/test_timelines.py": (
            "test_annotations_are_learned_from_and_predicted_also_after_a_restart",
        ),
    },
    "W9 classes lost in timelines, stale caches": {
        f"{HERE}/test_known_faults.py": ("test_w09_several_classes_are_one_stretch_of_their_label",),
        f"{HERE}/test_timeline_files.py": (
            "test_a_video_is_looked_at_once_for_each_weights_rate_and_content",
        ),
        f"{HERE}/test_models.py": (
            "test_a_named_model_is_loaded_once_by_many_threads_and_again_when_its_file_changes",
        ),
    },
    "W10 key points of controls that are not there, ids that collide, empty choices": {
        f"{HERE}/test_regions.py": (
            "test_a_rectangle_is_never_sent_to_a_control_that_is_not_there",
            "test_objects_do_not_share_their_rectangles",
            "test_choices",
            "test_the_score_of_choices_is_the_mean_of_those_chosen",
        ),
    },
    "W11 frames counted in the file's rate": {
        f"{HERE}/test_videos.py": (
            "test_frames_are_counted_in_the_configs_rate",
            "test_the_rate_is_the_configs",
        ),
    },
    "W12 one image at a time, one pass a control": {
        f"{HERE}/test_regions.py": ("test_every_control_on_a_picture_reads_one_pass_of_the_model",),
        f"{HERE}/test_protocol.py": ("test_all_selected_tasks_come_in_one_request",),
    },
    "W13 models loaded on import": {
        f"{HERE}/test_known_faults.py": ("test_w13_importing_the_backend_loads_neither_torch_nor_a_model",),
    },
    "W14 threads share a model without a lock": {
        f"{HERE}/test_known_faults.py": ("test_w14_only_one_thread_at_a_time_computes",),
    },
    "W15 training is claimed and nothing trained": {
        f"{HERE}/test_protocol.py": ("test_training_is_refused_honestly",),
        f"{HERE}/test_known_faults.py": ("test_w15_a_webhook_without_an_action_is_the_senders_fault",),
    },
    "W16 events unknown or worked on while Label Studio waits": {
        f"{HERE}/test_known_faults.py": ("test_w16_every_event_label_studio_sends_is_answered",),
        "tests/integration/test_timelines.py": ("test_label_studio_never_waits_for_a_training",),
        f"{HERE}/test_own_model.py": ("test_training_runs_in_the_background_and_its_version_shows",),
    },
    "W17 extra_params as an object fail": {
        f"{HERE}/test_protocol.py": ("test_setup_takes_any_extra_params",),
        f"{HERE}/test_versions.py": ("test_extra_params_choose_for_their_project_alone",),
        f"{HERE}/test_own_model.py": ("test_any_extra_params_reach_a_model_as_the_text_it_can_keep",),
    },
    "W18 an impossible config is told nobody": {
        f"{HERE}/test_protocol.py": ("test_a_config_that_nothing_can_be_done_for_says_why",),
    },
    "W19 one version for ever": {
        f"{HERE}/test_protocol.py": (
            "test_a_changed_config_changes_the_version",
            "test_the_version_changes_with_weights_and_threshold_and_with_nothing_else",
        ),
        f"{HERE}/test_versions.py": (
            "test_a_replaced_file_is_taken_without_a_restart_and_its_version_shows",
            "test_no_request_is_dropped_or_mixed_while_the_file_changes",
        ),
        f"{HERE}/test_own_model.py": (
            "test_setup_and_every_prediction_give_one_version_whatever_the_model_answers",
        ),
    },
    "W20 no versions": {
        f"{HERE}/test_protocol.py": ("test_versions_lists_what_was_given_newest_first",),
        f"{HERE}/test_versions.py": (
            "test_versions_and_choices_outlive_a_restart_and_are_shared_by_processes",
        ),
        "tests/e2e/test_ml_protocol.py": ("test_the_version_picker_lists_what_setup_gave",),
    },
    "W21 a 401 of Label Studio that nobody understands": {
        f"{HERE}/test_images.py": (
            "test_a_wrong_token_is_named_and_passes",
            "test_a_login_page_means_a_wrong_token",
        ),
    },
    "W22 any file of the disk is loaded or opened": {
        f"{HERE}/test_known_faults.py": ("test_w22_nothing_outside_model_root_is_opened",),
        f"{HERE}/test_weights.py": ("test_a_model_path_outside_model_root_is_refused",),
        f"{HERE}/test_references.py": (
            "test_no_text_is_ever_a_file_of_this_machine",
            "test_anything_else_is_refused",
        ),
    },
    "W23 events refused for want of a password, a Bearer header fails": {
        f"{HERE}/test_known_faults.py": ("test_w23_any_authorization_header_is_refused_and_never_a_failure",),
        f"{HERE}/test_protocol.py": (
            "test_the_webhook_label_studio_adds_by_itself_is_answered_without_a_password",
        ),
    },
    "W24 secrets in the log, tracebacks in answers, 500 for what is no JSON": {
        f"{HERE}/test_known_faults.py": (
            "test_w24_no_secret_of_a_request_is_logged_at_any_level",
            "test_w24_nobody_is_shown_a_traceback",
            "test_w24_any_body_is_answered_in_json_with_400",
        ),
        f"{HERE}/test_references.py": ("test_what_is_shown_holds_no_secret",),
    },
    "W25 downloads without time, size or host": {
        f"{HERE}/test_slow_sites.py": (
            "test_who_answers_a_byte_a_second_is_left_after_the_time_limit",
            "test_an_answer_that_may_unpack_to_a_million_times_its_size_is_refused",
        ),
        f"{HERE}/test_image_cache.py": (
            "test_the_folder_stays_below_its_size_and_loses_what_was_not_used_for_longest",
            "test_many_threads_write_and_read_whole_pictures",
            "test_a_damaged_file_is_no_picture",
        ),
        f"{HERE}/test_images.py": (
            "test_too_many_bytes_are_refused_by_their_header_or_while_they_come",
            "test_a_server_that_trickles_is_left_after_the_time_limit",
            "test_the_token_goes_to_no_other_host",
        ),
        f"{HERE}/test_safety.py": (
            "test_each_redirect_is_looked_at",
            "test_a_name_that_changes_its_answer_is_connected_to_where_it_was_looked_at",
            "test_this_machine_is_not_asked_by_its_name_or_number",
        ),
    },
    "W26 a process answers by the config another has replaced": {
        f"{HERE}/test_known_faults.py": ("test_w26_a_prediction_goes_by_the_config_it_comes_with",),
    },
}


def test_every_fault_has_a_test_that_is_there() -> None:
    numbers = [int(re.match(r"W(\d+) ", name)[1]) for name in HELD_BY]  # type: ignore[index]
    assert numbers == list(range(1, 27))
    for files in HELD_BY.values():
        for file, tests in files.items():
            tree = ast.parse((ROOT / file).read_text())
            there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert set(tests) <= there, file


def test_w07_a_model_answers_again_and_again() -> None:
    client = a_client()
    first, second, third = (predict(client, [task()])[0]["result"][0]["value"] for _ in range(3))
    assert first == second == third


def test_w09_several_classes_are_one_stretch_of_their_label() -> None:
    from ml_backend.controls.base import Target
    from ml_backend.controls.timeline_labels import TIMELINE_LABELS

    config = """<View><Video name="v" value="$video"/><TimelineLabels name="t" toName="v">
    <Label value="round" predicted_values="circle, ring"/></TimelineLabels></View>"""
    from ml_backend.config import parse_config

    (control,) = parse_config(config)
    labels = TIMELINE_LABELS.match(control, ("circle", "ring", "square"), ())
    target = Target(
        control=control, labels=labels, threshold=0.5, seen=(9, 9), shown=(9, 9), new_id=lambda: "id"
    )
    assert TIMELINE_LABELS.follow is not None
    following = TIMELINE_LABELS.follow(target, lambda asked: pytest.fail("no tracker is needed"))
    for frame, name in enumerate(["circle", "ring", "circle", "square", "ring"], start=1):
        scores = tuple((one, 0.9 if one == name else 0.05) for one in ("circle", "ring", "square"))
        following.see(frame, Found(class_scores=scores), None)
    regions = following.regions(frames=5, duration_s=1, framerate=5)
    assert [region["value"]["ranges"] for region in regions] == [
        [{"start": 1, "end": 3}],
        [{"start": 5, "end": 5}],
    ]


def test_w13_importing_the_backend_loads_neither_torch_nor_a_model() -> None:
    code = (
        "import sys, ml_backend.app; print([n for n in ('torch', 'ultralytics', 'cv2') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[]"


def test_w14_only_one_thread_at_a_time_computes() -> None:
    inside, most = [0], [0]

    def run(group: object, items: list[int]) -> list[int]:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        threading.Event().wait(0.001)
        inside[0] -= 1
        return [item * 2 for item in items]

    batcher: Batcher[int, int] = Batcher(run, most=lambda group: 4, room=1000)
    found: dict[int, list[int]] = {}

    def ask(number: int) -> None:
        ticket = batcher.ticket()
        for item in range(10):
            ticket.add("group", 100 * number + item)
        found[number] = [ticket.answer(index) for index in range(10)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {number: [2 * (100 * number + item) for item in range(10)] for number in range(8)}
    assert most == [1]


def test_w15_a_webhook_without_an_action_is_the_senders_fault() -> None:
    answer = a_client().post("/webhook", json={"project": {"id": 1}})
    assert answer.status_code == 400
    assert "action" in answer.get_json()["error"]


@pytest.mark.parametrize(
    "action",
    [
        *(
            "TASKS_CREATED",
            "TASKS_DELETED",
            "ANNOTATION_CREATED",
            "ANNOTATIONS_CREATED",
            "ANNOTATION_UPDATED",
        ),
        *("ANNOTATIONS_DELETED", "PROJECT_UPDATED", "LABEL_LINK_CREATED", "LABEL_LINK_UPDATED"),
        *("LABEL_LINK_DELETED", "SOMETHING_NEW"),
    ],
)
def test_w16_every_event_label_studio_sends_is_answered(action: str) -> None:
    gate = threading.Event()  # a model that is busy holds no event up
    answer = a_client(FakeDetector(gate=gate)).post("/webhook", json={"action": action, "project": {"id": 1}})
    gate.set()
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "model_path",
    [
        "{outside}/secret.pt",
        "../secret.pt",
        "inside/../../secret.pt",
        "link.pt",
        "folder/secret.pt",
        "file://{outside}/secret.pt",
        "http://models.test/secret.pt",
        "https://models.test/secret.pt",
        "s3://bucket/secret.pt",
        "~/secret.pt",
        "secret.pt\x00.pt".replace("\x00", "&#1;"),
        "",
    ],
)
def test_w22_nothing_outside_model_root_is_opened(model_path: str, tmp_path: Path) -> None:
    root, outside = tmp_path / "models", tmp_path
    (root / "inside").mkdir(parents=True)
    (outside / "secret.pt").write_bytes(b"code")
    (root / "link.pt").symlink_to(outside / "secret.pt")
    (root / "folder").symlink_to(outside)
    opened: list[str] = []

    def open_file(path: Path) -> Detector:
        opened.append(str(path))
        return FakeDetector()

    models = Models(find=weights, open=open_file, model_root=root)
    asked = model_path.format(outside=outside)
    config = CONFIG.replace('toName="image"', f'toName="image" model_path="{asked}"')
    client = a_client(models=models)
    answer = client.post("/predict", json={"project": PROJECT, "label_config": config, "tasks": [task()]})
    client.post("/setup", json={"project": PROJECT, "schema": config})
    assert answer.status_code in (200, 400)
    assert not any("secret" in path or "link" in path for path in opened)
    if answer.status_code == 200 and asked:
        assert answer.get_json()["results"][0]["result"] == []
        assert "MODEL_ROOT" in str(answer.get_json()["warnings"])


@pytest.mark.parametrize(
    "header",
    [
        *(
            "Bearer x",
            "Bearer",
            "Basic",
            "Basic ",
            "Basic ===",
            "Basic bm9jb2xvbg==",
            "Digest username=ls, password=password",
        ),
        *("Token 123", "", " ", "Basic /////w==", "Basic bHM6cGFzc3dvcmQ=x", "basic\tbHM6"),
    ],
)
@pytest.mark.parametrize(
    ("method", "route"), [("POST", "/setup"), ("POST", "/predict"), ("GET", "/versions")]
)
def test_w23_any_authorization_header_is_refused_and_never_a_failure(
    method: str, route: str, header: str
) -> None:
    client = a_client(basic_auth_user="ls", basic_auth_pass="password")
    answer = client.open(route, method=method, headers={"Authorization": header}, json={})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")


def test_w24_no_secret_of_a_request_is_logged_at_any_level(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(FakeDetector):
        def predict(self, images: Any, *, look: Any) -> list[Found]:
            raise RuntimeError("a failure with its traceback in the log")

    with caplog.at_level(logging.DEBUG):
        client = a_client(
            Failing(), basic_auth_user="ls", basic_auth_pass=SECRET, label_studio_api_key=SECRET
        )
        headers = {"Authorization": f"Bearer {SECRET}"}
        setup = {
            "project": PROJECT,
            "schema": CONFIG,
            "access_token": SECRET,
            "extra_params": {"key": SECRET},
        }
        context = {"result": [], "project_credentials_password": SECRET}
        body = {
            **{
                "project": PROJECT,
                "label_config": CONFIG,
                "params": {"password": SECRET, "context": context},
            },
            "tasks": [task(1, f"https://user:{SECRET}@pictures.test/a.png?X-Amz-Signature={SECRET}")],
        }
        for auth in (None, ("ls", SECRET)):
            client.post("/setup", json=setup, headers=headers if auth is None else None, auth=auth)
            client.post("/predict", json=body, auth=auth)
            client.post("/predict", json=body | {"tasks": [{"id": 1}]}, auth=auth)
            client.post("/predict", data=json.dumps(body)[:-1], auth=auth)
            event = {"action": "START_TRAINING", "project": {"token": SECRET, "task_data_password": SECRET}}
            client.post("/webhook", json=event, auth=auth)
            client.post("/webhook", json=event | {"action": "PROJECT_UPDATED"})
    assert "a failure with its traceback" in caplog.text
    assert SECRET not in caplog.text


def test_w24_nobody_is_shown_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        """Records go nowhere, and not quietly: a fault of ours outside everything that is caught."""

        def append(self, project_uid: str, records: list[dict[str, Any]]) -> None:
            raise RuntimeError(f"in {__file__}")

    inferences: Any = Broken()
    answer = a_client(inferences=inferences).post(
        "/predict", json={"project": PROJECT, "label_config": CONFIG, "tasks": [task()]}
    )
    assert answer.status_code == 500
    assert answer.get_json() == {"error": "the ML backend failed; its log has the reason"}
    assert "RuntimeError" not in answer.text + str(answer.headers)
    assert "RuntimeError" in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b"7", b'"text"', b"\xff\xfe", b"[" * 100_000, b"NaN", b'{"tasks": NaN}'),
        *(b"<html>", b"{}", b'{"tasks": {}}', b'{"tasks": [], "label_config": 7}', b'{"action": []}'),
    ],
)
@pytest.mark.parametrize("route", ["/setup", "/predict", "/webhook"])
def test_w24_any_body_is_answered_in_json_with_400(route: str, body: bytes) -> None:
    answer = a_client().post(route, data=body)
    assert answer.status_code == 400
    assert set(answer.get_json()) == {"error"}


def test_w26_a_prediction_goes_by_the_config_it_comes_with() -> None:
    """Nothing that one process was told in /setup decides what another answers."""
    detector = FakeDetector(Found(boxes=(a_box(),)))
    one, other = a_client(detector, images=FakeImages()), a_client(detector)
    changed = CONFIG.replace('value="Circle"', 'value="Ring" predicted_values="circle"')
    one.post("/setup", json={"project": PROJECT, "schema": CONFIG})
    other.post("/setup", json={"project": PROJECT, "schema": changed})
    predict(one, [task()], CONFIG)  # nor what it was asked before
    items = [predict(client, [task()], changed)[0] for client in (one, other)]
    assert [item["result"][0]["value"]["rectanglelabels"] for item in items] == [["Ring"], ["Ring"]]
    assert items[0]["model_version"] == items[1]["model_version"]

"""Tests the report in a real browser: texts, sorting, filtering, enlarged pictures, no requests, and escaping."""

import re
import shutil
import socket

import pytest
from click.testing import CliRunner
from optuna.trial import TrialState
from PIL import Image
from playwright.sync_api import sync_playwright

from huetune.data_tools.common.errors import StorageError
from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.data_tools.storage.output_files import RECORD_FILE
from huetune.results.cli.report_command import report as report_command
from huetune.results.records.run import MANIFEST, find_run
from huetune.results.records.value_text import format_value
from huetune.results.report import charts
from huetune.results.report import page as report
from huetune.results.report.summary import Findings
from huetune.results.report.svg import to_svg
from huetune.results.tables.trial_table import rows, run_rows, sort
from tests.allowed_skips import find_chromium, needs, skip_without
from tests.results.synthetic_run import make_run

SCRIPT = "<script>alert(1)</script>"
IMAGE = "<img src=x onerror=alert(1)>"
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
MAX_PAGE_BYTES = 5_000_000


@pytest.fixture(scope="module")
def browser():
    skip_without("chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture
def show(browser):
    """Open a file in the browser; fail if it writes to the console, opens a dialog or requests anything else."""
    said, pages = [], []

    def opened(path, **options):
        page = browser.new_context(viewport={"width": 1280, "height": 900}, **options).new_page()
        pages.append(page)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: said.append(request.url) if not request.url.startswith("data:") else None)
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]")
        assert said.pop(0) == path.as_uri()
        return page

    yield opened
    assert said == []
    for page in pages:
        page.context.close()


@pytest.fixture(scope="module")
def written(huetune, searched, tmp_path_factory):
    """The report that the command writes of a real run, with hostile names of the run and of the photos."""
    folder = tmp_path_factory.mktemp("report")
    run, photos = folder / IMAGE, folder / "photos" / SCRIPT
    shutil.copytree(searched[0] / "tiny", run)
    photos.parent.mkdir(parents=True)
    for number, photo in enumerate(garden(24, seed=9)):  # the run has seen those of seed 0
        Image.fromarray(photo).save(photos.with_name(f"{photos.name}{number:02}.png"))
    out = folder / "new" / "page.html"
    done = huetune("report", run, "--photos", folder / "photos", "--out", out)
    assert done.returncode == 0, done.stderr
    return out, done


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A confirmed run of 40 trials with a hostile word among its values, and its page."""
    run = make_run(tmp_path_factory.mktemp("made") / "run", 40, finalists=3, activation=SCRIPT)
    path = run.folder / "report.html"
    report.write_page(path, report.render_page(Findings.of(run), None, "none were given"))
    return run, path


def test_gallery_pictures_enlarge_by_mouse_and_keyboard(searched, written, show):
    out, done = written
    # How many trials are complete depends on which worker was faster.
    models = min(3, [row["state"] for row in run_rows(find_run("tiny", searched[0]))].count("complete"))
    assert out.stat().st_size < MAX_PAGE_BYTES and "MB, opens in any browser" in done.stdout
    page = show(out)
    assert IMAGE in page.inner_text("header .run")
    names = page.locator(".photo h3").all_inner_texts()
    assert len(names) == 20 and all(re.fullmatch(re.escape(SCRIPT) + r"\d\d\.png", name) for name in names)
    for row in page.locator(".photo").all()[:2]:
        captions = row.locator("figcaption").all_inner_texts()
        assert captions[:2] == ["original", "grayscale"] and len(captions) == 2 + models
        assert all(re.fullmatch(r"trial \d, ΔE \d+\.\d", caption) for caption in captions[2:])
    sizes = page.eval_on_selector_all(".photo img", "images => images.map(image => image.naturalWidth)")
    assert sizes == [112] * 20 * (2 + 2 * models)

    page.locator(".enlarge").nth(2).click()
    assert page.is_visible("dialog") and page.locator("dialog img").count() == 4
    assert page.locator("dialog img").first.bounding_box()["width"] > 220
    assert page.inner_text("#caption") == names[0]
    for _ in range(models):
        page.keyboard.press("ArrowRight")
    assert page.inner_text("#caption") == names[1] and page.locator("dialog img").count() == 2
    page.keyboard.press("Escape")
    assert not page.is_visible("dialog")
    # The event of closing the dialog comes later.
    picture = f"{names[1]}: original"
    page.wait_for_function("alt => document.activeElement.querySelector('img')?.alt === alt", arg=picture)
    page.keyboard.press("Enter")
    assert page.is_visible("dialog")


@needs("graphviz")
def test_page_shows_diagrams_of_the_best_model(written, show):
    page = show(written[0])
    parts = page.locator("#structure details")
    assert [words.split(" of trial ")[0] for words in parts.locator("summary").all_inner_texts()] == [
        "Diagram: encoder",
        "Diagram: decoder",
        "Diagram: whole",
    ]
    for part in parts.all():
        part.locator("summary").press("Enter")
        picture = part.locator("img")
        page.wait_for_function("image => image.naturalWidth > 300", arg=picture.element_handle())


def test_page_without_graphviz_shows_how_to_install_it(made, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    words = report.render_page(Findings.of(made[0]), None, "none were given")
    assert "No pictures of the structure: Graphviz, which draws them, is not installed" in words


def test_table_sorts_by_each_column_in_both_directions(made, show):
    run, path = made
    page = show(path)
    table = rows(run.study(), run.replicates())
    for column in ("trial", "score", "activation", "error", "confirmed"):
        button = page.get_by_role("button", name=column, exact=True)
        for descending in (False, True):
            button.press("Enter")
            head = page.locator(f'th[data-name="{column}"]')
            assert head.get_attribute("aria-sort") == ("descending" if descending else "ascending")
            place = int(head.evaluate("head => head.cellIndex"))
            cells = page.eval_on_selector_all(
                "#table tbody tr[data-trial]", f"rows => rows.map(row => row.cells[{place}].textContent)"
            )
            shown = [format_value(row[column]) for row in sort(table, column, descending)]
            assert cells == shown, column
    assert page.locator("[aria-sort]").count() == 1


@pytest.mark.parametrize(
    ("words", "meets"),
    [
        ("complete", lambda row: row["state"] == "complete"),
        ("skip=yes epochs>=3", lambda row: row["skip"] and row["epochs"] >= 3),
        ("score<0.05", lambda row: row["score"] is not None and row["score"] < 0.05),
        ("activation!=silu PRUNED", lambda row: row["activation"] != "silu" and row["state"] == "pruned"),
        (f"activation={SCRIPT}", lambda row: row["activation"] == SCRIPT),
        ("nonsense", lambda row: False),
    ],
)
def test_filter_hides_trials_in_table_and_charts(made, show, words, meets):
    run, path = made
    page = show(path)
    page.fill("#filter", words)
    expected = {str(row["trial"]) for row in rows(run.study()) if meets(row)}
    shown = page.eval_on_selector_all(
        "#table tbody tr[data-trial]:not([hidden])", "rows => rows.map(row => row.dataset.trial)"
    )
    assert set(shown) == expected and page.inner_text("#count") == f"{len(expected)} of 40 trials"
    marks = page.eval_on_selector_all(
        "#charts svg [data-trial]:not(.filtered-out)",
        "marks => marks.map(mark => mark.dataset.trial)",
    )
    drawn = {str(row["trial"]) for row in rows(run.study()) if row["epochs"]}
    assert set(marks) == expected & drawn


def test_marks_of_trials_have_their_number_as_data(made):
    """The script does not read labels, which are texts for people. Hostile text in a label does not hide the number."""
    run, _ = made
    drawn = to_svg(
        charts.score_history(rows(run.study()), 0.083, "chroma_mse", run.search_study.user_attrs["parameters"])
    )
    marks = re.findall(r'aria-label="trial (\d+), [^"]*"(?: data-trial="(\d+)")?', drawn)
    assert {number for _, number in marks} == {str(row["trial"]) for row in rows(run.study()) if row["score"]}
    assert all(said == number for said, number in marks) and "&lt;script&gt;" in drawn


def test_to_svg_with_control_characters_escapes_them(made):
    """A study from a stranger may contain them, and they make vl_convert abort the process."""
    table = [{**row, "activation": "re\x1b[2Jlu"} for row in rows(made[0].study())]
    drawn = to_svg(charts.score_history(table, 0.083, "chroma_mse", ["activation"]))
    assert "re\\x1b[2Jlu" in drawn and "\x1b" not in drawn


def test_selected_trial_is_highlighted_in_table_and_charts(made, show):
    page = show(made[1])
    number = page.locator("#table tbody tr[data-trial]").first.get_attribute("data-trial")
    page.locator("#table tbody button").first.press("Enter")
    assert page.locator("#table tbody button").first.get_attribute("aria-pressed") == "true"
    marked = page.eval_on_selector_all(
        "svg .highlighted", "marks => marks.map(mark => mark.getAttribute('aria-label'))"
    )
    assert len(marked) == 3 and all(label.startswith(f"trial {number}, complete, ") for label in marked)
    page.locator("svg .highlighted").first.hover(force=True)
    assert page.inner_text("#tooltip").startswith("trial ")


def test_page_shows_the_winner_and_escapes_names(made, show):
    page = show(made[1])
    first = page.locator("#finalists tbody tr").first.inner_text().split()
    assert page.inner_text(".answer").startswith(f"Trial {first[1]} wins: chroma_mse ")
    assert "(95% CI " in page.inner_text(".answer") and ", 3 seeds); " in page.inner_text(".answer")
    assert "than the mean-color baseline (0.083); " in page.inner_text(".answer")
    assert "Its chroma_mse is 0.083." in page.inner_text("header")
    assert page.locator("#finalists tbody tr").count() == 3
    assert page.inner_text("#reproduce code").startswith(f"huetune search --photos '{SCRIPT}' --name made")
    assert SCRIPT in page.inner_text("#table") and SCRIPT in page.inner_text("#reproduce .facts >> nth=1")
    assert SCRIPT in page.locator("#charts .wide svg").text_content()
    assert page.locator("script").count() == 1
    assert page.inner_text("#gallery").endswith("No pictures: none were given.")


def test_content_security_policy_blocks_requests_and_scripts(made, browser):
    """Even if a hostile name were not escaped, the policy would block what it inserts into the page."""
    page = browser.new_context().new_page()
    page.goto(made[1].as_uri())
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        page.evaluate(
            """url => {
                const script = document.createElement("script");
                script.textContent = "document.title = 'run'";
                const image = document.createElement("img"), style = document.createElement("style");
                image.src = url;
                style.textContent = "body { background: url(" + url + ") }";
                document.body.append(script, image, style);
                fetch(url).catch(() => {});
            }""",
            url,
        )
        with pytest.raises(TimeoutError):
            server.accept()
    assert page.title() == "run · huetune"
    page.context.close()


def test_page_fits_dark_mode_print_and_phones(made, show):
    def colors(page):
        script = "getComputedStyle(document.body).backgroundColor + getComputedStyle(document.querySelector('{}')).fill"
        return page.evaluate(script.replace("{}", "#charts .role-axis-title text"))

    light, dark = show(made[1], color_scheme="light"), show(made[1], color_scheme="dark")
    assert colors(light) == "rgb(255, 255, 255)rgb(28, 32, 36)"
    assert colors(dark) == "rgb(21, 24, 28)rgb(232, 234, 237)"
    dark.emulate_media(media="print")
    assert colors(dark) == colors(light)
    assert dark.pdf().count(b"/Type /Page\n") > 1
    light.set_viewport_size({"width": 390, "height": 800})
    assert light.evaluate("document.documentElement.scrollWidth") == 390
    assert light.locator("#charts .chart svg").first.bounding_box()["width"] <= 390


def test_page_of_a_thousand_trials_is_small_and_filters(tmp_path, show):
    run = make_run(tmp_path / "run", 1000, finalists=3)
    html = report.render_page(Findings.of(run), None, "none")
    assert len(html.encode()) < MAX_PAGE_BYTES / 2, "the other half is for pictures"
    report.write_page(tmp_path / "page.html", html)
    page = show(tmp_path / "page.html")
    page.fill("#filter", "skip=yes complete")
    page.get_by_role("button", name="seconds", exact=True).click()
    expected = sum(row["skip"] and row["state"] == "complete" for row in rows(run.study()))
    assert page.locator("#table tbody tr:not([hidden])").count() == expected


COMPLETE, RUNNING, FAIL = TrialState.COMPLETE, TrialState.RUNNING, TrialState.FAIL


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"trials": 5, "states": (COMPLETE, RUNNING)},
            [
                *("but was trained once", "No finalists have been confirmed"),
                "Presets are the models of the experiment log, trained with the dropout, optimizer and learning rate",
            ],
        ),
        (
            {"trials": 4, "states": (RUNNING, FAIL)},
            ["There is no winner yet: no trial is complete (2 running, 2 failed)"],
        ),
        (
            {"trials": 0},
            ["no trial is complete (none has started)", "No trial has started", "No trial has finished an"],
        ),
        (
            {"trials": 6, "states": (COMPLETE,), "objectives": ("chroma_mse", "chroma_ratio_error")},
            ["on the Pareto front", "has the best chroma_ratio_error", "Lower chroma_ratio_error is better"],
        ),
        ({"trials": 6, "states": (COMPLETE,), "objectives": ("skill",)}, ["the best skill", "Higher skill is better"]),
        (
            {"trials": 6, "finalists": 2, "seeds": 1},
            ["some finalists lack replicates, so there is no confirmed winner", "trained once"],
        ),
        (
            {"trials": 8, "at_baseline": (1, 4)},
            [
                "2 of 8 trials, 1 of them not trained to the end, stayed at the mean-color baseline",
                *("complete\tat baseline", "pruned\tat baseline", 'The note "at baseline" marks'),
                "1 of 2 configurations stayed at the mean-color baseline",
            ],
        ),
        (
            {"trials": 6, "finalists": 2, "schema": 1},
            [
                "This run was made by an older version of huetune, which did not record",
                "wins: chroma_mse",
                "not recorded",
            ],
        ),
    ],
    ids=[
        "running",
        "nothing complete",
        "no trial",
        "a front",
        "maximized",
        "confirmation under way",
        "at baseline",
        "old schema",
    ],
)
def test_page_of_a_run_in_any_state_has_all_sections(tmp_path, show, options, says):
    run = make_run(tmp_path / "run", **options)
    report.write_page(tmp_path / "page.html", report.render_page(Findings.of(run), None, "none"))
    page = show(tmp_path / "page.html")
    text = page.inner_text("body")
    assert [words for words in says if words not in text] == []
    assert page.locator("section h2").count() == 7


def test_page_without_photos_shows_the_reason(searched, tmp_path, connections):
    run = tmp_path / "tiny"
    shutil.copytree(searched[0] / "tiny", run)
    done = CliRunner().invoke(report_command, [str(run)])
    assert done.exit_code == 0, done.output
    html = (run / "report.html").read_text(encoding="utf-8")
    assert "1 of 1 photos from the synthetic garden" in html and html.count("<article") == 1
    assert len(connections) == 1, "the study is read once, however many models are shown"
    manifest = run / MANIFEST
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"scenes": 12', '"scenes": 13'))
    done = CliRunner().invoke(report_command, [str(run)])
    assert done.exit_code == 0 and "without pictures: " in done.output
    assert "No pictures: &#39;the synthetic garden&#39;: no longer the photos that run" in (
        run / "report.html"
    ).read_text(encoding="utf-8")


def test_write_page_replaces_only_reports(tmp_path):
    mine = tmp_path / "mine.html"
    mine.write_text("<html>my own</html>", encoding="utf-8")
    for path, why in ((mine, "is not huetune's or was changed since huetune wrote it"), (tmp_path, "Is a directory")):
        with pytest.raises(StorageError, match=rf"{why}.*; choose another --out"):
            report.write_page(path, report.GENERATOR_TAG)
    assert mine.read_text(encoding="utf-8") == "<html>my own</html>"
    report.write_page(tmp_path / "new.html", f"<html>{report.GENERATOR_TAG}")
    report.write_page(tmp_path / "new.html", f"<html>{report.GENERATOR_TAG}2")
    assert (tmp_path / "new.html").read_text(encoding="utf-8").endswith("2")
    with (tmp_path / "new.html").open("a", encoding="utf-8") as file:
        file.write("my remarks")
    with pytest.raises(StorageError, match="choose another --out"):
        report.write_page(tmp_path / "new.html", report.GENERATOR_TAG)
    # Older versions kept no record.
    (tmp_path / RECORD_FILE).unlink()
    report.write_page(tmp_path / "new.html", report.GENERATOR_TAG)

import pytest

from autoscaler.simulator.loads import read_csv
from autoscaler.simulator.traces import azure, common, genai, main

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:15:50.9951690,396,109\n"
    "2023-11-16 18:15:46.6805900,374,2\n"
)
GENAI = (
    "gmt_create,predict_status,exec_time_seconds\n"
    "2024-12-02 23:59:59,SUCCEED,9\n"
    "2024-12-03 00:10:00,SUCCEED,30.5\n"
    "2024-12-03 00:20:00,FAILED,40\n"
)


def test_a_request_of_azure_takes_as_long_as_the_tokens_that_it_generates(tmp_path):
    path = tmp_path / "azure.csv"
    path.write_text(AZURE)
    load = azure(path)
    assert load.arrivals == pytest.approx((0, 4.314579))
    assert load.services == (0.2, 109 * 0.05)


def test_a_job_of_genai_that_succeeded_on_the_day_comes_ten_times_within_a_minute(tmp_path):
    path = tmp_path / "genai.csv"
    path.write_text(GENAI)
    load = genai(path)
    assert load.services == (30.5,) * 10
    assert all(600 <= at <= 660 for at in load.arrivals)
    assert len(set(load.arrivals)) == 10
    assert genai(path) == load != genai(path, seed=1)


def test_the_command_writes_what_simulate_reads(tmp_path, capsys):
    path = tmp_path / "azure.csv"
    path.write_text(AZURE)
    main(["azure", str(path)])
    made = tmp_path / "load.csv"
    made.write_text(capsys.readouterr().out)
    assert read_csv(made).services == azure(path).services


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("TIMESTAMP\n", "line 1: GeneratedTokens is missing"),
        ("TIMESTAMP,GeneratedTokens\nsoon,1\n", "line 2: TIMESTAMP is 'soon'; it must be a time"),
        ("TIMESTAMP,GeneratedTokens\n2023-11-16 18:15:46,-1\n", "line 2: GeneratedTokens is '-1'"),
        ("TIMESTAMP,GeneratedTokens\n", "there are no requests"),
    ],
)
def test_a_bad_trace_ends_the_command_with_one_line(tmp_path, capsys, text, words):
    path = tmp_path / "azure.csv"
    path.write_text(text)
    with pytest.raises(SystemExit) as end:
        main(["azure", str(path)])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_folder_without_the_traces_is_told_which_are_missing(tmp_path):
    with pytest.raises(ValueError, match=r"azure_llm_conv\.csv is missing"):
        common(tmp_path)

"""Conditions keep the rows that meet them; a mistake is refused in one line with its position and an example."""

import pytest

from huetune.data_tools.common.errors import UserError
from huetune.results.tables.row_filter import where
from tests.results.tables.test_trial_table import ROWS, _numbers


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("skip == true and epochs >= 5", [3, 7]),
        ("skip == True", [3, 7]),
        ("not skip", [0, 5]),
        ("state in ('complete', 'failed')", [3, 5]),
        ("state not in ['complete', 'failed']", [0, 7]),
        ("score < 0.035 or activation == 'silu'", [3, 0, 5]),
        ("score < 1", [3, 0, 7]),
        ("score == none", [5]),
        ("error != none", [5]),
        ("0 < epochs < 6", [3, 0]),
        ("epochs > -1 and (skip == false or trial == 7)", [0, 7, 5]),
        ("trial == 99", []),
    ],
)
def test_where_keeps_rows_that_meet_condition(condition, expected):
    assert _numbers(where(ROWS, condition)) == expected


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("skipp == true", "no column 'skipp': did you mean 'skip'?"),
        ("qqq == 1", "no column 'qqq': the columns are trial, state, score"),
        ("score > ", "'>' at character 7 has no value on its right; as in \"skip == true and epochs >= 5\""),
        ("skip ==", "'==' at character 6 has no value on its right"),
        ("score > 3 and (skip or)", "'or' at character 21 has no value on its right"),
        ("score > > 3", "'>' at character 7 has no value on its right"),
        ("and score", "'and' at character 1 has nothing on its left"),
        ("   ", "the condition is empty"),
        ("(score > 3", "the bracket '(' at character 1 is not closed"),
        ("score > 3)", "the bracket ')' at character 10 was not opened"),
        ("activation in ['silu'", "the bracket '[' at character 15 is not closed"),
        ("state == 'complete", "the quote at character 10 is not closed"),
        ("skip = true", "write '==' instead of '=' at character 6"),
        ("skip && epochs > 3", "write 'and' instead of '&&' at character 6"),
        ("skip || epochs > 3", "write 'or' instead of '||' at character 6"),
        ("!skip", "write 'not' instead of '!' at character 1"),
        ("score <> 3", "write '!=' instead of '<>' at character 7"),
        ("score => 3", "write '>=' instead of '=>' at character 7"),
        ("state complete", "an operator such as == is missing between 'state' and 'complete' at character 7"),
        ("score == 08", "'08' at character 10 is not a number"),
        ("score > 0.5.3", "'0.5.3' at character 9 is not a number"),
        ("score > 3; skip", "';' at character 10 is not understood"),
        ("state == complete", "no column 'complete': put text in quotes, as in state == 'complete'"),
        ("state in (complete, 'failed')", "put text in quotes, as in state == 'complete'"),
        ("skip == yes", "'skip' holds true or false, and 'yes' is neither that nor a column"),
        ("skip == 'true'", "'skip' holds true or false, and 'true' is text; write it without quotes"),
        ("epochs in ('5', '6')", "'epochs' holds numbers, and '5' is text; write it without quotes"),
        ("state < 3", "'complete' and 3 cannot be compared in this way"),
        ("__import__('os').system('id')", "is neither a column nor a value"),
        ("score > -state", "is neither a column nor a value"),
        ("state.upper() == 'X'", "is neither a column nor a value"),
        ("score < '\udcff'", "not understood"),
        ("(" * 5000, "the bracket '(' at character 5000 is not closed"),
        ("skip is true", "use ==, !=, <, <=, >, >=, in or not in"),
    ],
)
def test_where_bad_condition_is_refused_in_one_line(condition, message):
    with pytest.raises(UserError) as refused:
        where(ROWS, condition)
    assert message in str(refused.value) and "\n" not in str(refused.value)

"""The report of a comparison, from a work dir whose runs are made up."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_rel

ROOT = Path(__file__).parents[2]
NAN = float('nan')


# statistics


def test_interval_by_hand(load):
    statistics = load('methods_statistics')
    ours, theirs = {0: 3.0, 1: 5.0, 2: 4.0, 9: 0.0}, {0: 2.0, 1: 2.0, 2: 2.0, 7: 5.0}
    found = statistics.paired_difference(ours, theirs)
    # differences 1, 3, 2: mean 2, sd 1; t of two degrees of freedom is 4.3027
    assert (found['n'], found['mean'], found['sd']) == (3, 2.0, 1.0)
    half = 4.302653 / math.sqrt(3)
    assert found['low'] == pytest.approx(2 - half)
    assert found['high'] == pytest.approx(2 + half)
    reference = ttest_rel([3, 5, 4], [2, 2, 2])
    interval = reference.confidence_interval(0.95)
    assert (found['low'], found['high']) == pytest.approx((interval.low, interval.high))
    assert found['p'] == pytest.approx(reference.pvalue)


def words(load, ours, lower=False):
    statistics = load('methods_statistics')
    found = [statistics.paired_difference(one, dict.fromkeys(range(9), 0.0)) for one in ours]
    statistics.put_into_words(found, lower)
    return [one['words'] for one in found]


@pytest.mark.parametrize(
    ('ours', 'lower', 'said'),
    [
        ({0: 1.0, 1: 1.1, 2: 0.9}, False, 'better'),
        ({0: 1.0, 1: 1.1, 2: 0.9}, True, 'worse'),
        ({0: -1.0, 1: -1.1, 2: -0.9}, True, 'better'),
        ({0: 1.0, 1: 3.0, 2: 2.0}, False, 'no measurable difference'),
        ({0: 0.0, 1: 0.0, 2: 0.0}, False, 'no measurable difference'),
        ({0: 0.5, 1: 0.5, 2: 0.5}, False, 'better'),
        ({0: 1.0}, False, 'one seed: no statement'),
        ({}, False, 'no common seed'),
    ],
)
def test_words_of_a_single_comparison(load, ours, lower, said):
    assert words(load, [ours], lower) == [said]


def test_words_take_the_number_of_comparisons_into_account(load):
    clear = {0: 1.0, 1: 1.1, 2: 0.9}  # p = 0.0033
    faint = {0: 1.0, 1: 1.5, 2: 2.0}  # p = 0.036
    nothing = {0: 1.0, 1: -1.0, 2: 0.1}
    assert words(load, [faint]) == ['better']
    assert words(load, [faint, clear]) == ['better', 'better']
    said = words(load, [faint, nothing, clear])
    assert said == ['perhaps better', 'no measurable difference', 'better']
    assert words(load, [clear] + [nothing] * 20)[0] == 'perhaps better'


def test_words_do_not_weaken_when_more_seeds_come_in(load):
    faint, waiting = {0: 1.0, 1: 1.5, 2: 2.0}, {0: 1.0}
    assert words(load, [faint, waiting]) == ['perhaps better', 'one seed: no statement']


def test_equal_methods_are_rarely_called_different(load):
    """Of many reports on ten equal methods, about one in twenty may have a false word."""
    random, wrong = np.random.default_rng(0), 0
    for _ in range(300):
        ours = [dict(enumerate(random.normal(size=3))) for _ in range(10)]
        wrong += any(word in ('better', 'worse') for word in words(load, ours))
    assert wrong / 300 < 0.09  # 5 % expected, and three standard errors


# a report

TERMS = {
    'alone': [],
    'kd': [dict(type='PixelwiseKLLoss', loss_name='loss_kd')],
    'mutual': [
        dict(type='PixelwiseKLLoss', loss_name='loss_kd'),
        dict(type='PixelwiseKLLoss', loss_name='loss_kd', learner='teacher'),
        dict(
            type='AttentionTransferLoss',
            loss_name='loss_at',
            student_tap='backbone.layer4',
            teacher_tap='backbone.layer3',
        ),
    ],
}


def telemetry(curves, name):
    for term in TERMS[name]:
        learner = term.get('learner', 'student')
        source = 'student' if learner == 'teacher' else 'teacher'
        for step in (1, 2):
            who = dict(step=step, loss_name=term['loss_name'], learner=learner, source=source)
            values = dict.fromkeys(curves.WATCHED, 0.5 * step)
            yield {**who, **values, 'reverse': NAN if step == 1 else 1.0}


def measured(miou, **scores):
    split = dict(
        mIoU=miou, IoU=[miou, miou + 2, None], ECE=5.0, NLL=1.0, agreement=70.0, images=2,
        bins=dict(pixels=[1.0, 3.0], probability=[0.4, 2.7], hits=[0.0, 3.0]), **scores,
    )  # fmt: skip
    cost = dict(parameters=2_000_000, flops=3e9, input=[1, 3, 8, 8])
    return dict(
        classes=['road', 'sky', 'bus'], palette=[[0] * 3, [9] * 3, [0, 9, 0]], test_is_val=False,
        cost={**cost, 'latency_ms': dict(q1=1.0, median=2.0, q3=3.0)}, val=split, test=dict(split),
        test_of_best=miou, date='', commit='abc', python='3', torch='2', balkd_seg='0', cpu='c',
        cores=2, threads=1, card=None,
    )  # fmt: skip


@pytest.fixture
def work(load, tmp_path):
    """A comparison of three seeds: kd gains about a point, mutual's third score is no number."""
    state, curves = load('methods_state'), load('methods_curves')
    scores = {
        'alone': (20.0, 21.0, 22.0), 'kd': (21.0, 22.1, 22.9), 'mutual': (20.5, 21.0, NAN)
    }  # fmt: skip
    runs = []
    for name in scores:
        for seed, score in enumerate(scores[name]):
            folder = f'runs/{name}/seed-{seed}'
            about = dict(name=name, config=f'configs/{name}.py', seed=seed, cell={}, max_iters=2)
            model = dict(student={}, distill=TERMS[name])
            model['peers' if name == 'mutual' else 'teacher'] = dict(teacher={})
            run = state.RunFolder.create(
                tmp_path / folder, {**about, 'taught': name == 'kd'}, f'model = {model}\n'
            )
            run.update(status='done')
            run.measured.write_text(json.dumps(measured(score)))
            run.work.mkdir()
            lines = [json.dumps(line) + '\n' for line in telemetry(curves, name)]
            (run.work / 'telemetry.jsonl').write_text(''.join(lines))
            runs.append(dict(name=name, folder=folder))
    suite = dict(options={'train_cfg.val_interval': 1, 'crop': [1, 2]}, quick=False, jobs=2)
    configs = [f'configs/{name}.py' for name in scores]
    sweep = dict(configs=configs[1:2], seeds=[0], grid={'temperature': [1, 2.5]})
    suite['commands'] = [dict(configs=configs, seeds=[0, 1, 2], grid={}), sweep]
    state.write_json(tmp_path / 'suite.json', {**suite, 'runs': runs})
    return tmp_path


def test_a_score_that_is_no_number_is_left_out_and_counted(load, work):
    load('methods_report').write_report(work)

    def refuse(word):
        raise AssertionError(f'{word} is not JSON')

    results = json.loads((work / 'report.json').read_text(), parse_constant=refuse)
    mutual = results['methods'][2]
    assert (mutual['val']['n'], mutual['finished']) == (2, 3)
    assert mutual['against']['alone']['val']['n'] == 2
    assert results['runs'][-1]['scores']['val'] is None
    assert '| mutual | 20.75 ± 0.35 |' in (work / 'report.md').read_text()


def test_tables_name_what_was_compared(load, work):
    load('methods_report').write_report(work)
    text, page = ((work / f'report.{kind}').read_text() for kind in ('md', 'html'))
    row = r'| kd | alone | +1.00 [+0.75, +1.25] better |'
    assert row in text
    assert text.split(row)[1].splitlines()[0].endswith(' | 3 |')
    assert '| student | 2.00 | 3.00 | 2.0 | 1x3x8x8 |' in text
    command = (
        'python tools/benchmark_methods.py \\\n  configs/alone.py \\\n  configs/kd.py \\\n'
        '  configs/mutual.py \\\n  --seeds 0 1 2 \\\n  --jobs 2 \\\n'
        "  --cfg-options train_cfg.val_interval=1 'crop=[1,2]'\n"
        'python tools/benchmark_methods.py \\\n  configs/kd.py \\\n  --seeds 0 \\\n'
        '  --grid temperature=1,2.5 \\\n'
    )
    assert command in text
    assert '2 iterations a run' in text
    assert '| class | alone | kd | mutual |\n' in text
    assert '| sky | 23.00 | 24.00 | 22.75 |' in text
    assert '| bus | - | - | - |' in text
    assert ', measured at commit abc' in text
    assert "Holm's correction for all 3 comparisons" in text
    for line in ('2 iterations a run', '--seeds 0 1 2', '<td class="better">+1.00'):
        assert line in page


def test_names_and_ticks_of_a_figure_are_plain_text(load):
    figures = load('methods_figures')
    curve = [[1, 0.6], [2, 4.0], [3, 1.1]]
    drawn = figures.draw_curves([figures.Series('$x_1$', 'k', [curve])], log=True)
    texts = re.findall(r'<text[^>]*>([^<]*)</text>', drawn)
    assert texts.count('$x_1$') == 1
    assert {'1', '2', '3', '4'} <= set(texts)
    assert [text for text in texts if '$' in text] == ['$x_1$']


def test_telemetry_shows_every_term_and_where_it_looks(load, work):
    results = load('methods_report').write_report(work)
    why = load('methods_why')
    rows = why.term_rows(results)
    assert rows == [
        ['kd', 'loss_kd', 'PixelwiseKLLoss', 'student from teacher', 'logits'],
        ['mutual', 'loss_kd', 'PixelwiseKLLoss', 'student from teacher', 'logits'],
        ['mutual', 'loss_kd', 'PixelwiseKLLoss', 'teacher from student', 'logits'],
        ['mutual', 'loss_at', 'AttentionTransferLoss', 'student from teacher',
         'backbone.layer4, backbone.layer3'],
    ]  # fmt: skip
    by_pair = [one.label for one in why.series(results, 'forward', by_pair=True) if one.curves]
    assert by_pair == ['kd', 'mutual: student from teacher', 'mutual: teacher from student']
    ratio = list(why.series(results, None, by_pair=False))
    shown = [(one.label, one.dash) for one in ratio if one.curves]
    assert shown == [
        ('kd', '-'), ('mutual: loss_kd', '-'), ('mutual: teacher.loss_kd', '--'),
        ('mutual: loss_at', ':'),
    ]  # fmt: skip
    assert next(one for one in ratio if one.label == 'kd').curves[0] == [[1, 1.0], [2, 1.0]]
    assert results['runs'][3]['telemetry']['loss_kd']['reverse'] == [None, 1.0]


def test_gains_of_classes_are_of_common_seeds(load, work):
    (work / 'runs/alone/seed-0/measured.json').write_text(json.dumps(measured(0.0)))
    state = load('methods_state')
    state.RunFolder(work / 'runs/kd/seed-0').update(status='failed', reason='x', tail='')
    page = load('methods_page')
    results = load('methods_report').write_report(work)
    gains = page.gains_of(results['runs'], 'kd')
    assert gains[:2] == pytest.approx([(1.1 + 0.9) / 2] * 2)
    assert gains[2] is None


def test_without_a_common_seed_there_is_a_report_without_gains(load, work):
    state = load('methods_state')
    for folder in ('alone/seed-0', 'kd/seed-1', 'kd/seed-2'):
        failure = dict(status='failed', reason='it broke', tail='<b>')
        state.RunFolder(work / 'runs' / folder).update(**failure)
    state.RunFolder(work / 'runs/kd/seed-1').update(status='training')  # with --retry
    results = load('methods_report').write_report(work)
    assert load('methods_page').gains_of(results['runs'], 'kd') == [None] * 3
    text = (work / 'report.md').read_text()
    assert '| kd | alone | no common seed |' in text
    assert '**kd seed 1**: training\n\n**kd seed 2**: failed: it broke\n\n```\n<b>\n```' in text


def test_an_unfinished_run_cuts_no_curves(load, work):
    results = load('methods_report').write_report(work)
    unfinished = load('methods_state').RunFolder(work / 'runs/kd/seed-1')
    unfinished.update(status='failed', reason='', tail='')
    lines = (unfinished.work / 'telemetry.jsonl').read_text().splitlines(keepends=True)
    (unfinished.work / 'telemetry.jsonl').write_text(lines[0])
    results = load('methods_report').write_report(work)
    kd = next(s for s in load('methods_why').series(results, 'forward', True) if s.label == 'kd')
    assert kd.curves == [[[1, 0.5], [2, 1.0]]] * 2


def test_small_gains_are_pale(load, work):
    for name, score in (('kd', 20.1), ('mutual', 20.0), ('alone', 20.0)):
        for seed in range(3):
            file = work / f'runs/{name}/seed-{seed}/measured.json'
            file.write_text(json.dumps(measured(score)))
    results = load('methods_report').write_report(work)
    assert 'background:rgba(21,128,61,0.10)">+0.1' in load('methods_page').class_gains(results)

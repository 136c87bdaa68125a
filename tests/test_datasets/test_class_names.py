from balkd_seg.datasets.class_names import differences


def test_names_may_differ_in_their_spelling_alone():
    assert differences(('traffic light', 'Road'), ['traffic_light', 'road']) == []
    assert differences(('a', 'b c'), ('a', 'bd')) == ['1: b c / bd']
    assert differences(('a', 'b'), ('a',)) == []

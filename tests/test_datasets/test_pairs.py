import pytest

from balkd_seg.datasets.pairs import find_pairs, name_first, require_complete


@pytest.fixture
def folders(tmp_path):
    images, labels = tmp_path / 'images', tmp_path / 'labels'
    files = {
        images: ('x/1_i.png', 'x/2_i.png', 'y/1_i.png'),
        labels: ('x/1_l.png', 'y/1_l.png', 'y/3_l.png', 'y/3_color.png'),
    }
    for folder, names in files.items():
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
    return str(images), str(labels)


def test_pairs_by_path_below_the_folder(folders):
    images, labels = folders
    pairs = find_pairs(*folders, ('_i.png',), '_l.png')
    assert pairs.complete == [
        (f'{images}/x/1_i.png', f'{labels}/x/1_l.png'),
        (f'{images}/y/1_i.png', f'{labels}/y/1_l.png'),
    ]
    assert pairs.images_without_label == [f'{labels}/x/2_l.png']
    assert pairs.labels_without_image == [f'{labels}/y/3_l.png']
    with pytest.raises(FileNotFoundError, match=r'x/2_l\.png \(1 in all\) is missing'):
        require_complete(pairs, *folders, ('_i.png',))


def test_many_are_counted():
    text = name_first([f'{number}.png' for number in range(12)])
    assert text == '0.png, 1.png, 2.png, 3.png, 4.png and 7 more (12 in all) are'

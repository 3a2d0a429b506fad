"""Words beside points, in figures that are laid out but not saved."""

from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from hpcbench.analysis.figures.annotations import annotate_points, place_annotations
from hpcbench.analysis.figures.styles import SeriesMark


def panel() -> Axes:
    figure = Figure(figsize=(6, 6), dpi=100)
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    ax.set(xlim=(0, 10), ylim=(0, 10))
    return ax


def placed(ax: Axes, *points: tuple[str, float, float]) -> list[Annotation]:
    texts, x, y = zip(*points, strict=True)
    words = annotate_points(ax, texts, x, y, SeriesMark(0))
    place_annotations(ax, words)
    return words


def side(word: Annotation) -> tuple[str, str]:
    return word.get_horizontalalignment(), word.get_verticalalignment()


def test_a_word_stands_to_the_lower_right_where_nothing_else_is() -> None:
    (word,) = placed(panel(), ("8", 5, 5))
    assert side(word) == ("left", "top")


def test_a_word_keeps_off_the_line_that_leaves_its_point() -> None:
    ax = panel()
    ax.plot([5, 9], [5, 1], marker="o")
    (word,) = placed(ax, ("128", 5, 5))
    assert side(word) == ("left", "bottom")


def test_a_word_keeps_off_the_steps_of_a_front() -> None:
    ax = panel()
    ax.plot([5, 9], [5, 4.75], drawstyle="steps-pre")
    (word,) = placed(ax, ("128", 5, 5))
    assert side(word) == ("left", "bottom")


def test_a_word_keeps_off_the_marker_of_another_point() -> None:
    ax = panel()
    ax.plot([5, 5.4], [5, 4.7], marker="o", linestyle="none")
    (word,) = placed(ax, ("128", 5, 5))
    assert side(word) != ("left", "top")


def test_points_without_a_line_have_none_between_them() -> None:
    ax = panel()
    ax.plot([5, 9], [5, 1], marker="o", linestyle="none")
    (word,) = placed(ax, ("128", 5, 5))
    assert side(word) == ("left", "top")


def test_a_word_is_not_cut_off_at_the_corner() -> None:
    ax = panel()
    (word,) = placed(ax, ("128", 9.9, 0.1))
    box = word.get_window_extent()
    assert ax.bbox.x0 <= box.x0 < box.x1 <= ax.bbox.x1
    assert ax.bbox.y0 <= box.y0 < box.y1 <= ax.bbox.y1


def test_words_of_one_place_never_touch_and_those_without_space_are_hidden() -> None:
    words = placed(panel(), *(("a long word", 5.0, 5.0) for _ in range(9)))
    seen = [word.get_window_extent() for word in words if word.get_visible()]
    assert 1 < len(seen) < len(words)
    assert not any(first.overlaps(second) for first, second in combinations(seen, 2))

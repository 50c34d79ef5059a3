import io

from hf_scorevi.plots._style import finish, new_figure


def picture(names, columns=1):
    figure = new_figure(3.0, "a picture")
    axes = figure.subplots()
    for name in names:
        axes.plot([0, 1], label=name)
    finish(figure, "$\\title{", columns)
    return figure


def test_names_in_a_legend_are_no_formulas():
    figure = picture(["$\\frac{x$", "$x$"])
    figure.savefig(io.BytesIO(), format="png")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["$\\frac{x$", "$x$"]


def test_long_names_end_within_the_picture():
    names = [f"/data/checkpoints/2026/vit-base-patch16-224-in21k/{'fine-tuned-' * 9}{i} (ECE 0.123)" for i in range(2)]
    figure = picture(names)
    figure.draw_without_rendering()
    first, second = (text.get_text() for text in figure.legends[0].get_texts())
    assert first.startswith("/data/checkpoints/2026/")
    assert first.endswith("0 (ECE 0.123)")
    assert second.endswith("1 (ECE 0.123)")
    assert figure.legends[0].get_window_extent().x1 <= figure.bbox.width

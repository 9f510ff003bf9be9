from graphssl.reports.markup import Html, Picture, document, figure, paragraph, pictures, strip, table, tag, text


def test_text_is_escaped_once() -> None:
    assert text("<b>&\"'") == "&lt;b&gt;&amp;&quot;&#x27;"
    assert text(text("<b>")) == "&lt;b&gt;"
    assert tag("p", "<", Html("<br>"), class_='a"b', aria_label="x") == '<p class="a&quot;b" aria-label="x">&lt;<br></p>'
    assert paragraph("a", "soft") == '<p class="soft">a</p>'


def test_a_table_escapes_every_part() -> None:
    page = table(["<h>", "n"], [["<r>", "<c>"], ["s", 1]], caption="<k>", numeric=(1,), strong=(1,))
    for part in ("&lt;h&gt;", "&lt;r&gt;", "&lt;c&gt;", "&lt;k&gt;"):
        assert part in page
    assert page.count('class="n"') == 3
    assert page.count("class=strong") == 1
    assert page.count('scope="row"') == 2


def test_a_figure_holds_its_image() -> None:
    page = figure(Picture(b"\x89PNG", 'say "what"', "<caption>", 300))
    assert 'src="data:image/png;base64,iVBORw=="' in page
    assert 'alt="say &quot;what&quot;"' in page
    assert "&lt;caption&gt;" in page


def test_a_strip_places_its_marks() -> None:
    marks = strip(0.5, 0.25, 0.75, (0.0, 1.0), 0.5)
    assert 'cx="50.0"' in marks
    assert 'x1="26.0" x2="74.0"' in marks
    assert 'class="ref"' in marks
    bare = strip(0.5, float("nan"), float("nan"), (0.0, 1.0), float("nan"))
    assert 'class="ci"' not in bare
    assert 'class="ref"' not in bare
    assert "circle" not in strip(float("nan"), float("nan"), float("nan"), (0.0, 1.0), 2.0)


def test_pictures_that_could_not_be_drawn_are_passed_over() -> None:
    picture = Picture(b"png", "alt", "caption", 100)
    assert list(pictures(None, picture, None)) == [figure(picture)]


def test_a_document_is_whole_and_its_title_is_escaped() -> None:
    page = document("a < b", tag("header", "top"), [tag("p", "one"), tag("p", "two")], tag("footer", "end"))
    assert page.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert "<title>a &lt; b</title>" in page
    assert "<main>\n<p>one</p>\n<p>two</p>\n</main>\n<footer>end</footer>" in page

"""Pages to look at: one dataset as a self-contained HTML file, or the index of a folder of them.

    dataset -> alignment, timeline, moments, pictures (numbers)
            -> charts, contact_sheet, sections, session_page, index_page (HTML) -> page_file

What a page shows of a recording is other people's text; `markup` lets none of it become markup.
Drawing needs numpy and h5py; pictures need `av` too.
"""

"""Result objects in, text out: JSON, Markdown, JUnit, HTML."""

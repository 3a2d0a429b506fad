"""A real Chromium for tests that look at pages, and what they ask of every page."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
_PATIENCE_MS = 240_000
_QUIET = (
    *("--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a profile of its own; the test is skipped where none is installed."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("no browser is installed: none of " + ", ".join(PROGRAMS))
    # Its sandbox does not work for root.
    arguments = [*_QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        # Its own limit is half a minute, which a busy machine may take to start it.
        browser = playwright.chromium.launch(
            executable_path=program, args=arguments, timeout=_PATIENCE_MS
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Heard:
    """What a page did besides showing itself."""

    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def opened(
    browser: Browser, path: Path, *, size: str = "desktop", scheme: Any = "light"
) -> Iterator[Page]:
    """The page once it is ready. At the end it must have said nothing and asked for nothing."""
    width, height = WIDTHS[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, locale="de-DE"
    )
    page = context.new_page()
    page.set_default_timeout(_PATIENCE_MS)
    heard = Heard()
    page.on("console", lambda message: heard.messages.append(message.text))
    page.on("pageerror", lambda error: heard.messages.append(str(error)))
    page.on("dialog", lambda dialog: (heard.messages.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: heard.requests.append(request.url))
    try:
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        yield page
        assert heard.messages == []
        assert [u for u in heard.requests if u != path.as_uri() and not u.startswith("blob:")] == []
    finally:
        context.close()


def too_wide(page: Page) -> list[str]:
    """Elements that reach out of the window, unless they lie in something that scrolls."""
    found: list[str] = page.evaluate(
        """() => {
          const scrolls = (element) => {
            for (let up = element.parentElement; up; up = up.parentElement) {
              if (getComputedStyle(up).overflowX !== "visible") return true;
            }
            return false;
          };
          return [...document.body.querySelectorAll("*")]
            .filter((element) => {
              const box = element.getBoundingClientRect();
              return box.width > 1 && (box.right > innerWidth + 0.5 || box.left < -0.5) &&
                !scrolls(element) && getComputedStyle(element).position !== "absolute";
            })
            .map((element) => element.outerHTML.slice(0, 120));
        }"""
    )
    width = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return found + ([f"the page is {width} px too wide"] if width > 0 else [])


def cut_off(page: Page) -> list[str]:
    """Texts that do not fit into their own box, which hides what sticks out."""
    found: list[str] = page.evaluate(
        """() => [...document.body.querySelectorAll("*")]
          .filter((element) => {
            const style = getComputedStyle(element);
            const hides = style.overflowX === "hidden" && style.clipPath === "none";
            return hides && element.clientWidth > 2 && element.textContent.trim() &&
              element.scrollWidth > element.clientWidth + 1;
          })
          .map((element) => element.outerHTML.slice(0, 120))"""
    )
    return found


def overlapping(page: Page) -> list[list[str]]:
    """Pairs of texts that cover each other, in what can be seen of the page."""
    found: list[list[str]] = page.evaluate(
        """() => {
          const hidden = (element) => {
            for (let up = element; up; up = up.parentElement) {
              const style = getComputedStyle(up);
              if (style.clipPath !== "none" || parseInt(style.left) < -900) return true;
            }
            return element.closest("option") !== null;
          };
          const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          const boxes = [];
          for (let node = walker.nextNode(); node; node = walker.nextNode()) {
            const parent = node.parentElement;
            if (!node.data.trim() || !parent.checkVisibility()) continue;
            if (parent.closest("option, thead, .hidden, .skip") && hidden(parent)) continue;
            const range = document.createRange();
            range.selectNodeContents(node);
            for (const box of range.getClientRects()) {
              let { left, right, top, bottom } = box;
              for (let up = parent; up; up = up.parentElement) {
                const style = getComputedStyle(up);
                if (style.overflowX === "visible" || up === document.body) continue;
                const clip = up.getBoundingClientRect();
                left = Math.max(left, clip.left); right = Math.min(right, clip.right);
                top = Math.max(top, clip.top); bottom = Math.min(bottom, clip.bottom);
              }
              // Lines of text may touch: only what covers letters counts.
              const height = bottom - top;
              top += 0.25 * height; bottom -= 0.25 * height;
              if (right - left > 1 && height > 4) boxes.push({ left, right, top, bottom, node });
            }
          }
          boxes.sort((a, b) => a.top - b.top);
          const pairs = [];
          boxes.forEach((a, i) => {
            for (let j = i + 1; j < boxes.length && boxes[j].top < a.bottom; j++) {
              const b = boxes[j];
              if (a.node !== b.node && b.left < a.right - 1 && a.left < b.right - 1) {
                pairs.push([a.node.data.trim().slice(0, 60), b.node.data.trim().slice(0, 60)]);
              }
            }
          });
          return pairs;
        }"""
    )
    return found


def pale(page: Page, least: float = 4.5) -> list[str]:
    """Texts whose contrast to what lies behind them is below that of WCAG's level AA."""
    found: list[str] = page.evaluate(
        """(least) => {
          const channels = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
          const luminance = ([r, g, b]) => {
            const [x, y, z] = [r, g, b].map((c) => c / 255).map((c) =>
              c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
            return 0.2126 * x + 0.7152 * y + 0.0722 * z;
          };
          const behind = (element) => {
            for (let up = element; up; up = up.parentElement) {
              const colour = channels(getComputedStyle(up).backgroundColor);
              if (colour.length === 3 || colour[3] > 0) return colour;
            }
            return [255, 255, 255];
          };
          const bad = new Set();
          const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          for (let node = walker.nextNode(); node; node = walker.nextNode()) {
            const parent = node.parentElement;
            if (!node.data.trim() || !parent.checkVisibility()) continue;
            if (parent.closest(":disabled")) continue;
            const style = getComputedStyle(parent);
            const text = channels(parent instanceof SVGElement ? style.fill : style.color);
            const [a, b] = [luminance(text), luminance(behind(parent))];
            const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            if (contrast < least) bad.add(`${contrast.toFixed(1)}: ${node.data.trim()}`);
          }
          return [...bad];
        }""",
        least,
    )
    return found

"""usage: generated.py [--check]

Writes the pages of the documentation that are generated: docs/settings.md from what the programs print for --help,
docs/api-operations.md from the OpenAPI document of the server at SLUICE_URL, and samples/README.md from the first lines of each
sample. With --check they are compared instead.
"""

import difflib
import json
import os
import sys
import urllib.request
from pathlib import Path

import settings

ROOT = Path(__file__).resolve().parents[2]
API = ROOT / "docs/api-operations.md"
SAMPLES = ROOT / "samples/README.md"
SETTINGS = ROOT / "docs/settings.md"
METHODS = ("get", "put", "post", "delete")

API_HEAD = """# Operations of the API

Every operation, with its parameters, its bodies and its answers, as `GET /openapi.json` of a server has them. This page is generated:
do not edit it. `make docs-generated` writes it again, and `make test-docs` compares it. [api.md](api.md) explains the API.

Every answer has the header `X-Request-Id`. What is wrong is answered by a [Problem](#problem) with a code, which
[errors.md](errors.md) explains. The errors of an operation are listed with it, except those that many have.
"""

SAMPLES_HEAD = """# Samples

Resources `EventAggregator` to copy, each for one purpose. [docs/resource.md](../docs/resource.md) explains every field. A test reads each of
these files by the schema of the resource. The table is generated from the first lines of the files by `make docs-generated`.

| file | shows |
|---|---|
"""


def cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def type_of(schema: dict) -> str:
    """Returns the type of a value in words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    for several, between in (("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")):
        if several in schema:
            return between.join(dict.fromkeys(type_of(one) for one in schema[several]))
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" if not isinstance(value, str) else f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    words = [f"list of {type_of(schema['items'])}" if kind == "array" and "items" in schema else kind for kind in kinds]
    if "object" in kinds and isinstance(schema.get("additionalProperties"), dict):
        words = [f"object of {type_of(schema['additionalProperties'])}" if word == "object" else word for word in words]
    return (" or ".join(words) or "any JSON") + bounds(schema)


def bounds(schema: dict) -> str:
    found = []
    for low, high, unit in (("minimum", "maximum", ""), ("minLength", "maxLength", " characters"), ("minItems", "maxItems", " items")):
        if low in schema and high in schema:
            found.append(f"{schema[low]} to {schema[high]}{unit}")
        elif low in schema and schema[low]:
            found.append(f"at least {schema[low]}{unit}")
        elif high in schema:
            found.append(f"at most {schema[high]}{unit}")
    if "format" in schema and schema["format"] not in ("int32", "int64", "double", "uint64"):
        found.append(schema["format"])
    return f" ({', '.join(found)})" if found else ""


def codes(response: dict) -> list[str]:
    """Returns the codes of a response that is a problem."""
    content = response.get("content", {}).get("application/problem+json", {})
    return list(content.get("examples", {}))


def links(status: str, names: list[str], known: str) -> str:
    def link(name: str) -> str:
        return f"[`{name}`](errors.md#{name}-{status})" if f"\n## {name} ({status})\n" in known else f"`{name}`"

    return f"{status} {', '.join(link(name) for name in names)}"


def operations_page(document: dict) -> str:
    known = (ROOT / "docs/errors.md").read_text()
    operations = [
        (method, path, item[method]) for path, item in document["paths"].items() for method in METHODS if method in item
    ]
    errors = [{(status, code) for status, one in operation["responses"].items() for code in codes(one)} for _, _, operation in operations]
    common = set.intersection(*errors)
    # An operation that can be answered 401 needs a token where authentication is on.
    guarded = set.intersection(*(some for some in errors if ("401", "unauthorized") in some)) - common
    page = API_HEAD
    for about, some in (("Every operation can be answered with", common), ("All but the probes can be answered with", guarded)):
        page += f"\n{about}:\n\n" + "".join(f"- {line}\n" for line in by_status(some, known))
    common |= guarded
    tags = {tag["name"] for tag in document["tags"]}
    assert all(tags.intersection(operation.get("tags", [])) for _, _, operation in operations), "an operation without a tag"
    for tag in document["tags"]:
        page += f"\n## {tag['name'].capitalize()}\n\n{tag.get('description', '')}.\n"
        for method, path, operation in operations:
            if tag["name"] in operation.get("tags", []):
                page += operation_section(method, path, operation, common, known)
    page += "\n## Schemas\n\nThe objects of requests and answers. What is in bold type is always there.\n"
    for name, schema in sorted(document["components"]["schemas"].items()):
        page += schema_section(name, schema)
    return page


def by_status(errors: set[tuple[str, str]], known: str) -> list[str]:
    statuses = sorted({status for status, _ in errors})
    return [links(status, sorted(code for of, code in errors if of == status), known) for status in statuses]


def operation_section(method: str, path: str, operation: dict, common: set, known: str) -> str:
    about = "\n\n".join(part for part in (operation.get("summary"), operation.get("description")) if part)
    section = f"\n### `{method.upper()} {path}`\n\n" + (f"{about}\n\n" if about else "")
    if parameters := operation.get("parameters"):
        section += "| parameter | in | type | default | meaning |\n|---|---|---|---|---|\n"
        for one in parameters:
            schema = one["schema"]
            name = f"**`{one['name']}`**" if one.get("required") else f"`{one['name']}`"
            default = f"`{json.dumps(schema['default'])}`" if "default" in schema else "–"
            meaning = one.get("description") or schema.get("description", "")
            section += f"| {name} | {one['in']} | {cell(type_of(schema))} | {cell(default)} | {cell(meaning)} |\n"
        section += "\n"
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        section += f"- Body `{kind}`: {type_of(body.get('schema', {}))}\n"
    for status, response in sorted(operation["responses"].items()):
        if not codes(response):
            kinds = [f"`{kind}`: {type_of(one.get('schema', {}))}" for kind, one in response.get("content", {}).items()]
            section += f"- **{status}** {response['description'].strip()}" + (f" ({'; '.join(kinds)})" if kinds else "") + "\n"
    errors = {(status, code) for status, one in operation["responses"].items() for code in codes(one)} - common
    if errors:
        section += f"- Errors: {'; '.join(by_status(errors, known))}\n"
    return section


def schema_section(name: str, schema: dict) -> str:
    section = f"\n### {name}\n\n"
    if about := schema.get("description"):
        section += f"{about.strip()}\n\n"
    if "properties" not in schema:
        return section + f"{type_of(schema)}\n"
    section += "| member | type | meaning |\n|---|---|---|\n"
    for member, one in schema["properties"].items():
        shown = f"**`{member}`**" if member in schema.get("required", []) else f"`{member}`"
        section += f"| {shown} | {cell(type_of(one))} | {cell(one.get('description', ''))} |\n"
    return section


def samples_page() -> str:
    page = SAMPLES_HEAD
    for sample in sorted(SAMPLES.parent.glob("*.yaml")):
        lines = sample.read_text().splitlines()
        end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
        page += f"| [{sample.name}]({sample.name}) | {cell(' '.join(line.removeprefix('#').strip() for line in lines[:end]))} |\n"
    return page


def main() -> int:
    with urllib.request.urlopen(f"{os.environ['SLUICE_URL']}/openapi.json", timeout=30) as answer:
        document = json.load(answer)
    status = 0
    pages = {SETTINGS: settings.page(settings.programs()), API: operations_page(document), SAMPLES: samples_page()}
    for path, page in pages.items():
        written = path.read_text() if path.exists() else ""
        if "--check" not in sys.argv:
            path.write_text(page)
        elif page != written:
            status = 1
            name = str(path.relative_to(ROOT))
            print(f"{name} is not what is generated: make docs-generated", file=sys.stderr)
            sys.stderr.writelines(difflib.unified_diff(written.splitlines(True), page.splitlines(True), name, "generated", n=0))
    return status


if __name__ == "__main__":
    sys.exit(main())

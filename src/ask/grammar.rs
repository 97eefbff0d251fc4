//! What a language model is asked so that it writes a query, and the grammar that it can't leave.

use super::book::Book;
use crate::limits;

/// Instruction for the model; the question follows as what the user says.
pub fn instruction(book: &Book) -> String {
    let names = names(book);
    let list = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    format!(
        "Turn the question into a query of four lines.\n\
         line: down if it asks about the time without a line (offline, outage), else any\n\
         period: unsaid, now, all, last <number> minutes|hours|days, or today|yesterday|<number> days ago HH:MM-HH:MM\n\
         about: everything, or names from this list: {list}\n\
         severity: any, warning or critical\n\n\
         Question: what happened while the line was down?\n\
         line: down\nperiod: unsaid\nabout: everything\nseverity: any\n\n\
         Question: 最近三小时有严重的报警吗？\n\
         line: any\nperiod: last 3 hours\nabout: everything\nseverity: critical\n\n\
         Question: any warnings last night?\n\
         line: any\nperiod: yesterday 18:00-06:00\nabout: everything\nseverity: warning\n"
    )
}

/// The grammar of [`super::Query::written`] with the names in `book`, in EBNF.
pub fn grammar(book: &Book) -> String {
    let names: Vec<String> = names(book).iter().map(|name| quoted(name)).collect();
    let about = match &names[..] {
        [] => "about ::= \"everything\"\n".to_owned(),
        names => format!(
            "about ::= \"everything\" | name ( \", \" name ( \", \" name )? )?\nname ::= {}\n",
            names.join(" | ")
        ),
    };
    format!(
        "root ::= \"line: \" ( \"any\" | \"down\" ) \"\\nperiod: \" period \"\\nabout: \" about \"\\nseverity: \" severity \"\\n\"\n\
         period ::= \"unsaid\" | \"now\" | \"all\" | \"last \" count \" \" unit | day \" \" clock \"-\" clock\n\
         count ::= [1-9] [0-9]?\n\
         unit ::= \"minutes\" | \"hours\" | \"days\"\n\
         day ::= \"today\" | \"yesterday\" | [2-9] \" days ago\"\n\
         clock ::= [01] [0-9] \":\" [0-5] [0-9] | \"2\" [0-3] \":\" [0-5] [0-9] | \"24:00\"\n\
         severity ::= \"any\" | \"warning\" | \"critical\"\n{about}"
    )
}

/// Names to choose from: assets first, each once.
fn names(book: &Book) -> Vec<String> {
    let assets = book.assets().iter().map(String::as_str);
    let channels = book.channels().iter().map(|c| c.id.as_str());
    let mut names: Vec<String> = Vec::new();
    for name in assets.chain(channels) {
        let usable = !name.contains(", ") && !name.contains(char::is_control) && name != "everything";
        if usable && names.len() < limits::ASK_NAMES_MAX && !names.iter().any(|n| n == name) {
            names.push(name.to_owned());
        }
    }
    names
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::{Named, Query};
    use crate::reading::ChannelId;

    #[test]
    fn every_name_stands_once_and_what_would_break_the_language_is_left_out() {
        let named = |id: &str, asset: &str| Named {
            id: ChannelId::new(id).unwrap(),
            label: id.into(),
            asset: Some(asset.into()),
        };
        let book = Book::new([named("a.x", "a \"b\""), named("a.y", "a \"b\""), named("c", "one, two")]);
        let grammar = grammar(&book);
        assert!(grammar.contains("name ::= \"a \\\"b\\\"\" | \"a.x\" | \"a.y\" | \"c\"\n"), "{grammar}");
        assert!(instruction(&book).contains("a \"b\", a.x, a.y, c"));
    }

    #[test]
    fn the_examples_of_the_instruction_are_queries() {
        let text = instruction(&Book::default());
        let examples: Vec<&str> = text.split("Question: ").skip(1).collect();
        assert_eq!(examples.len(), 3);
        for example in examples {
            let (_, query) = example.split_once('\n').unwrap();
            Query::parse(query, &Book::default()).unwrap_or_else(|e| panic!("{e}: {query}"));
        }
    }
}

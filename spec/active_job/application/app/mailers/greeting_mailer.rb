# frozen_string_literal: true

class GreetingMailer < ActionMailer::Base
  def hello(name)
    mail(from: "app@example.org", to: "#{name}@example.org", subject: "Hello", body: "Hello, #{name}!")
  end
end
